// Command embed-relay runs the relay inside a program of one's own: from the outbox of one database to one Kafka.
//
// It is an example to copy. The outbox table, the publication and the topics must exist: walpost migrate up, walpost topics create. It delivers exactly
// once, which is the default: consumers must read committed records only, and a slot through which something else has published needs `walpost slot adopt`
// once. Delivery: relay.AtLeastOnce in kafkasink.Config needs neither.
package main

import (
	"context"
	"errors"
	"expvar"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
	"github.com/walpost/walpost/relay/pgwal"
)

func main() {
	database := flag.String("database-url", "postgres://walpost@127.0.0.1:5433/walpost?sslmode=disable", "database that holds the outbox")
	brokers := flag.String("kafka-brokers", "127.0.0.1:9092", "brokers to begin with, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := run(ctx, *database, strings.Split(*brokers, ","), log)
	var halt *relay.HaltError
	switch {
	case errors.As(err, &halt): // a cause that starting again does not mend
		log.Error("the relay has halted", "cause", halt.Cause.String(), "error", err)
		os.Exit(halt.Cause.ExitCode())
	case err != nil:
		log.Error("the relay could not start", "error", err)
		os.Exit(1)
	}
}

// run relays until ctx ends. Servers that are away are waited for. Exactly once begins by itself on a slot that is new; see walpost slot adopt for others.
func run(ctx context.Context, database string, brokers []string, log *slog.Logger) error {
	source, err := pgwal.New(pgwal.Config{URL: database, Logger: log})
	if err != nil {
		return err
	}
	sink, err := kafkasink.New(kafkasink.Config{Brokers: brokers, Delivery: relay.ExactlyOnce, Logger: log})
	if err != nil {
		return err
	}
	engine, err := relay.New(source, sink, relay.Config{Logger: log, Observer: observer{log}})
	if err != nil {
		return err
	}
	return engine.Run(ctx)
}

// observer is told what the relay does; this one counts in expvar, as any library for metrics would. Which calls it gets depends on which methods it
// has: see relay.Observer.
type observer struct{ log *slog.Logger }

var (
	_ relay.Observer            = observer{}
	_ relay.DeliveryObserver    = observer{}
	_ relay.PublishObserver     = observer{}
	_ relay.TransactionObserver = observer{}
)

var counts = expvar.NewMap("relay") // under /debug/vars of a program that serves HTTP

// StateChanged is the one method that every observer has.
func (o observer) StateChanged(s relay.State, cause error) {
	o.log.Info("relay state", "state", s.String(), "cause", cause)
}

// Delivering says what is in force: exactly once needs brokers whose transactions are of version 2.
func (o observer) Delivering(d relay.Delivery) { o.log.Info("relay delivery", "delivery", d.String()) }

// Published is called when Kafka has acknowledged a batch.
func (o observer) Published(events []relay.Event, _ time.Duration) {
	counts.Add("events", int64(len(events)))
	counts.Add("batches", 1)
	counts.AddFloat("seconds from commit to acknowledgement of the oldest", time.Since(events[0].CommittedAt).Seconds())
}

// TransactionEnded is called at the end of each transaction, exactly once only.
func (o observer) TransactionEnded(outcome relay.Outcome) {
	counts.Add("transactions "+outcome.String(), 1)
}
