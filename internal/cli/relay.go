package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
	"github.com/walpost/walpost/relay/pgwal"
)

func newRelayCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Carry committed events from PostgreSQL's log to Kafka",
		Long: `Carry committed events from PostgreSQL's write-ahead log to Kafka, in commit order. A database or broker that is away is waited for; a second
relay on the same slot stands by. What no retry mends halts the relay with an exit code of its own, from 10 to 21, and the command to run next.
SIGTERM finishes the batch in flight.

It delivers exactly once: the events and the place in the log are one Kafka transaction, and consumers that read committed records
(isolation.level=read_committed) see each event once. It begins by itself on a slot that is new. On a slot that Debezium or at-least-once has used
nobody knows what is published already: the relay halts with exit code 20, or 12, and walpost slot adopt lets it begin where the slot stands. With
--delivery at-least-once an event takes less time, and a crash repeats what was published and not yet confirmed; the way there needs nothing.

An event that can never be published halts the relay: a row whose topic is NULL or no name of a topic, a record larger than its topic takes, an event
whose topic does not exist. With --on-unpublishable dead-letter it goes to --dead-letter-topic instead, with the reason in its headers and in its place
in commit order, and the later events of its key go on.`,
		Example: `  walpost relay --database-url postgres://relay@db/orders --kafka-brokers kafka:9092
  walpost relay --on-unpublishable dead-letter
  walpost relay --delivery at-least-once
  walpost relay --topic 'outbox.event.${aggregate_type}' --position-headers`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context(), "walpost-relay", runRelay) },
	}
	config.Flags(cmd.Flags(), "database-url", "kafka-brokers", "table", "slot", "publication", "delivery", "topic", "create-topics", "on-unpublishable",
		"dead-letter-topic", "position-headers",
		"ops-addr=127.0.0.1:9466", "ops-public")
	return cmd
}

// runRelay relays until ctx ends, which it returns nil for, or until the relay halts.
func runRelay(ctx context.Context, cfg config.Config, o *ops.Ops) error {
	return runMended(ctx, cfg, o, func(_ context.Context, halt error) error { return halt })
}

// runMended is runRelay that goes on after its first halt, if mend returns nil for it.
func runMended(ctx context.Context, cfg config.Config, o *ops.Ops, mend func(ctx context.Context, halt error) error) error {
	from := walConfig(cfg)
	from.Logger = o.Log
	source, err := pgwal.New(from)
	if err != nil {
		return misuse(err)
	}
	to := kafkasink.Config{
		Brokers: cfg.KafkaBrokers, PositionHeaders: cfg.PositionHeaders, CreateTopics: cfg.CreateTopics, Delivery: delivery(cfg), Logger: o.Log,
	}
	if cfg.OnUnpublishable == "dead-letter" {
		from.DeadLetters, to.DeadLetterTopic = true, cfg.DeadLetterTopic
	}
	sink, err := kafkasink.New(to)
	if err != nil {
		return misuse(err)
	}
	pool, err := openPool(ctx, cfg, o, 1) // to see whether the database answers
	if err != nil {
		return err
	}
	defer pool.Close()
	stopChecks, err := checkKafka(cfg, o)
	if err != nil {
		return err
	}
	defer stopChecks()
	o.WatchSlot(func(ctx context.Context) (ops.Slot, error) { return slotForOps(ctx, from) })
	observer := o.RelayObserver()
	observer.InFlight(source.BufferedBytes)
	engine, err := relay.New(source, sink, relay.Config{Logger: o.Log, Observer: observer})
	if err != nil {
		return err
	}
	o.Health.Started()
	if err = engine.Run(ctx); err == nil {
		return nil
	}
	if err = mend(ctx, err); err != nil {
		return err
	}
	return engine.Run(ctx)
}

// delivery is what the configuration, which is valid, asks for.
func delivery(cfg config.Config) relay.Delivery {
	if cfg.Delivery == relay.AtLeastOnce.String() {
		return relay.AtLeastOnce
	}
	return relay.ExactlyOnce
}

func walConfig(cfg config.Config) pgwal.Config {
	return pgwal.Config{
		URL: cfg.DatabaseURL, Slot: cfg.Slot, Publication: cfg.Publication, Table: cfg.Table, Mapping: record.Mapping{Topic: cfg.Topic},
	}
}

func slotForOps(ctx context.Context, cfg pgwal.Config) (ops.Slot, error) {
	s, err := pgwal.ReadSlot(ctx, cfg)
	if err != nil {
		return ops.Slot{}, err
	}
	slot := ops.Slot{WALStatus: s.WALStatus, RetainedBytes: s.RetainedBytes(), UnconfirmedBytes: s.UnconfirmedBytes(), SafeBytes: s.SafeBytes}
	switch {
	case s.Active:
		slot.Inactive = new(time.Duration)
	case s.InactiveSince != nil:
		slot.Inactive = new(time.Since(*s.InactiveSince))
	}
	return slot, nil
}
