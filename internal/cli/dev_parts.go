package cli

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/migrations"
)

const (
	pageConns      = 2                      // of the status page to the database
	pageDrain      = 200 * time.Millisecond // a page that is cut off is asked for again
	partitionEvery = time.Hour
)

// addresses are where the running parts can be reached, host and port.
type addresses struct {
	api, console, kafka, postgres, smtp, ops string
}

// startParts starts what stands on the infrastructure and returns when the API answers. The order is the reverse of that of the stop: first no
// request comes in, then the relay and the consumer finish, then nobody looks on, then the mail server goes.
func (d *dev) startParts(ctx context.Context) error {
	d.ops = ops.New(d.program.log)
	listening := make(chan net.Addr, 1)
	d.ops.OnListen = func(part string, addr net.Addr) {
		if part == "api" {
			listening <- addr
		}
	}
	if err := d.startTracing(ctx); err != nil {
		return err
	}
	d.startMailSink(ctx)
	if err := d.startPage(ctx); err != nil {
		return err
	}
	d.parts.Start(ctx, "partitions", d.keepPartitions)
	d.startPart(ctx, "consumer", runConsumer)
	if err := d.startPublisher(ctx); err != nil {
		return err
	}
	return d.phase("API", func() error { return d.startAPI(ctx, listening) })
}

// startAPI returns when the API listens, which it tells on listening.
func (d *dev) startAPI(ctx context.Context, listening <-chan net.Addr) error {
	addr, err := d.ports.free("addr")
	if err != nil {
		return err
	}
	d.cfg.Addr, d.where.api = addr, reachable(addr)
	d.startPart(ctx, "API", serveAPI)
	select {
	case <-listening:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// startPart runs one of the servers that have a command of their own, with the settings of this moment.
func (d *dev) startPart(ctx context.Context, name string, run part) {
	cfg := d.cfg
	d.parts.Start(ctx, name, func(ctx context.Context) error { return run(ctx, cfg, d.ops) })
}

func (d *dev) startTracing(ctx context.Context) error {
	if !d.cfg.Tracing {
		return nil
	}
	flush, err := d.ops.StartTracing(ctx, "walpost-dev")
	if err != nil {
		return err
	}
	d.parts.Start(ctx, "traces", func(ctx context.Context) error {
		<-ctx.Done()
		flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return flush(flushing)
	})
	return nil
}

func (d *dev) startMailSink(ctx context.Context) {
	listener := d.ports.take("smtp-addr")
	d.cfg.SMTPAddr, d.cfg.SMTPTLS, d.cfg.SMTPUsername = listener.Addr().String(), "none", ""
	d.where.smtp = d.cfg.SMTPAddr
	d.parts.Start(ctx, "mail sink", func(ctx context.Context) error { return d.mails.Run(ctx, listener) })
}

// startPage starts the status page with what it reads from, and the listener of health and metrics.
func (d *dev) startPage(ctx context.Context) error {
	if err := d.openSources(ctx); err != nil {
		return err
	}
	page, err := devstack.NewPage(ops.ReadBuild().Version, curl(reachable(d.ports["addr"].Addr().String())), d.sources)
	if err != nil {
		return err
	}
	console, metrics := d.ports.take("console-addr"), d.ports.take("ops-addr")
	d.where.console, d.where.ops = console.Addr().String(), metrics.Addr().String()
	d.parts.Start(ctx, "status page", func(ctx context.Context) error {
		server := &http.Server{
			Handler: page, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 15 * time.Second,
			IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		}
		return ops.ServeHTTP(ctx, server, console, pageDrain)
	})
	d.parts.Start(ctx, "metrics", func(ctx context.Context) error { return d.ops.ServeOn(ctx, metrics) })
	return nil
}

// openSources connects what the page reads from: the database, the topics, the sink.
func (d *dev) openSources(ctx context.Context) error {
	settings, err := pgxpool.ParseConfig(d.cfg.DatabaseURL)
	if err != nil {
		return err
	}
	settings.MaxConns = pageConns
	d.where.kafka, d.where.postgres = d.cfg.KafkaBrokers[0], net.JoinHostPort(settings.ConnConfig.Host, fmt.Sprint(settings.ConnConfig.Port))
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return err
	}
	d.parts.Start(ctx, "page's connections", func(ctx context.Context) error {
		<-ctx.Done()
		pool.Close()
		return nil
	})
	topics, err := devstack.NewTopicReader(d.cfg.KafkaBrokers, d.cfg.DeadLetterTopic)
	if err != nil {
		return err
	}
	d.parts.Start(ctx, "topic reader", topics.Run)
	d.sources = devstack.Sources{
		Pool: pool, Topics: topics, Mails: &d.mails, Slot: d.cfg.Slot, Group: d.cfg.Group, DeadLetterTopic: d.cfg.DeadLetterTopic,
		RunsOn: d.runsOn(),
	}
	return nil
}

// keepPartitions makes the partitions of the coming days; the migrations have made those of the first week.
func (d *dev) keepPartitions(ctx context.Context) error {
	tick := time.NewTicker(partitionEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		err := withDB(ctx, d.cfg, func(db *sql.DB) error {
			_, err := migrations.CreatePartitions(ctx, db, d.cfg.AheadDays)
			return err
		})
		if err != nil && ctx.Err() == nil {
			d.program.log.Error("partitions could not be created", "error", err)
		}
	}
}

// devConfig makes the parts say and do more than they would elsewhere: positions in the records, a topic for every type that is tried out, and a
// short wait for the consumer of a run that was killed.
func devConfig(cfg config.Config) config.Config {
	cfg.PositionHeaders, cfg.CreateTopics = true, true
	cfg.SessionTimeout = 6 * time.Second
	return cfg
}
