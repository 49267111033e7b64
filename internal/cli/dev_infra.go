package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/devstack/postgres"
)

// devDatabase is the database of dev, in a cluster of its own.
const devDatabase = "walpost"

// eventRetention bounds what a partition keeps of events; a broker that starts again holds all of it in memory. Dead letters are kept.
const eventRetention = 256 << 20

// startInfrastructure starts what the parts connect to: PostgreSQL with its tables, and the broker with its topics, side by side.
func (d *dev) startInfrastructure(ctx context.Context) error {
	if d.onRealStack() {
		return d.useRealStack(ctx)
	}
	listener := d.ports.take("kafka-addr")
	d.cfg.KafkaBrokers = []string{listener.Addr().String()}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.phase("PostgreSQL", func() error { return d.startPostgres(ctx) }) })
	group.Go(func() error {
		return d.phase("development broker", func() error { return d.startBroker(ctx, listener) })
	})
	return group.Wait()
}

// phase is a step of the start. Its error has its name, and the log says how long it took.
func (d *dev) phase(name string, run func() error) error {
	began := time.Now()
	if err := run(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d.program.log.Info("ready", "part", name, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

func (d *dev) startPostgres(ctx context.Context) error {
	binaries, err := d.findPostgres(ctx)
	if err != nil {
		return err
	}
	d.binaries = binaries
	log, err := os.Create(d.data.postgresLog())
	if err != nil {
		return err
	}
	var server *postgres.Server
	err = d.phase("server", func() (err error) {
		server, err = d.launchPostgres(ctx, log)
		return err
	})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	d.parts.Start(ctx, "PostgreSQL", func(ctx context.Context) error {
		defer func() { _ = log.Close() }() // what is lost of it is lost to a reader only
		select {
		case <-ctx.Done():
			return server.Stop(context.WithoutCancel(ctx))
		case <-server.Exited():
			return fmt.Errorf("ended by itself: %s (see %s)", lastLine(server.Log()), log.Name())
		}
	})
	d.cfg.DatabaseURL = server.URL(devDatabase)
	d.recovered = d.recovered || server.Recovered()
	if err := d.phase("database", func() error { return devstack.EnsureDatabase(ctx, server.URL("postgres"), devDatabase) }); err != nil {
		return err
	}
	return d.phase("tables", func() error { return migrateUp(ctx, d.cfg, io.Discard) })
}

func (d *dev) findPostgres(ctx context.Context) (postgres.Binaries, error) {
	binaries, err := postgres.Find(ctx, d.cfg.PGBin, d.data.fetched())
	if errors.Is(err, postgres.ErrNotFound) {
		return postgres.Fetch(ctx, d.data.fetched(), postgres.FetchVersion, d.talk)
	}
	return binaries, err
}

func (d *dev) launchPostgres(ctx context.Context, log io.Writer) (*postgres.Server, error) {
	doing, hint := "starting PostgreSQL on "+d.data.postgres(), ": to begin anew without the data, run `"+d.resetCommand()+"`"
	if _, err := os.Stat(d.data.postgres()); err != nil {
		doing, hint = "making a database in "+d.data.postgres(), ""
	}
	defer devstack.Slowly(d.talk, doing)()
	port := d.pgPort
	if port == 0 {
		addr, err := d.ports.free("postgres-addr")
		if err != nil {
			return nil, err
		}
		port = portOf(addr)
	}
	server, err := postgres.Start(ctx, postgres.Config{
		Binaries: d.binaries, Dir: d.data.postgres(), Port: port, Log: log,
		// As the broker beside it, the server keeps what it committed when a process is killed, and not when the machine loses power. That takes a
		// second off the first start and several milliseconds off each event.
		Settings: map[string]string{"fsync": "off"},
	})
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, hint)
	}
	return server, nil
}

func (d *dev) startBroker(ctx context.Context, listener net.Listener) error {
	broker, err := devstack.StartBroker(ctx, devstack.BrokerConfig{Dir: d.data.kafka(), Listener: listener, Logger: d.program.log})
	if err != nil {
		return err
	}
	d.parts.Start(ctx, "development broker", func(ctx context.Context) error {
		<-ctx.Done()
		return broker.Close()
	})
	for _, topic := range d.cfg.Topics {
		if err := broker.CreateTopic(topic, map[string]string{"retention.bytes": strconv.Itoa(eventRetention)}); err != nil {
			return err
		}
	}
	return broker.CreateTopic(d.cfg.DeadLetterTopic, nil)
}

// serverUser is the user that runs the server when that is another than ours, else "".
func serverUser(dataDir string) string {
	info, err := os.Stat(dataDir)
	if err != nil {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return ""
	}
	uid := strconv.Itoa(int(stat.Uid))
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
