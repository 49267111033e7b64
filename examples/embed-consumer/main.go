// Command embed-consumer applies events to the database of a program of one's own, exactly once each: it counts the registrations of each day.
//
// It is an example to copy. The inbox tables and the topics must exist: walpost migrate up, walpost topics create.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/inbox"
)

func main() {
	database := flag.String("database-url", "postgres://walpost@127.0.0.1:5433/walpost?sslmode=disable&pool_max_conns=20", "database to change")
	brokers := flag.String("kafka-brokers", "127.0.0.1:9092", "brokers to begin with, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(ctx, *database, strings.Split(*brokers, ","), log); err != nil {
		log.Error("the consumer has ended", "error", err)
		os.Exit(1)
	}
}

// run consumes until ctx ends.
func run(ctx context.Context, database string, brokers []string, log *slog.Logger) error {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, "create table if not exists registrations (day date primary key, n bigint not null)"); err != nil {
		return fmt.Errorf("create table registrations: %w", err)
	}
	consumer, err := inbox.New(pool, inbox.Config{
		Brokers:  brokers,
		Group:    "registrations-per-day", // of its own, so that it gets every event beside the other consumers
		Topics:   []string{"notif.user.registration"},
		Handlers: map[string]inbox.TxHandler{"notif.user.registration": inbox.On(count)},
		Logger:   log,
	})
	if err != nil {
		return err
	}
	return consumer.Run(ctx) // waits for servers that are away
}

// registration is what this program wants to know of the payload.
type registration struct {
	Kind string `json:"kind"`
}

// count would count twice what is delivered twice, were it not for the inbox row in the same transaction.
func count(ctx context.Context, tx pgx.Tx, m *inbox.Message, registered registration) error {
	if registered.Kind != "welcome" {
		return nil
	}
	_, err := tx.Exec(ctx, `insert into registrations values ($1::date, 1) on conflict (day) do update set n = registrations.n + 1`, m.Time.UTC())
	return err
}
