package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/record"
)

// newForwarder makes what carries the rows of a raw connector to the topics of their events; nil when that is not asked for. The function
// returns when ctx ends and the batch at hand is done.
func newForwarder(cfg config.Config, o *ops.Ops) (run func(ctx context.Context) error, err error) {
	switch {
	case !cfg.Forward:
		return nil, nil
	case slices.Contains(cfg.Topics, cfg.RawTopic):
		return nil, fmt.Errorf("flag --raw-topic: %q is one of the topics as well: the consumer would take its rows for events", cfg.RawTopic)
	case cfg.RawTopic == cfg.DeadLetterTopic:
		return nil, fmt.Errorf("flag --raw-topic: %q is the dead-letter topic as well: a dead letter would be read, and die, for ever", cfg.RawTopic)
	case cfg.ForwardGroup == cfg.Group:
		return nil, fmt.Errorf("flag --forward-group: %q is the consumer's group as well: the forwarder needs one of its own", cfg.ForwardGroup)
	}
	rows, err := record.NewRowDecoder(record.Mapping{Topic: cfg.Topic})
	if err != nil {
		return nil, fmt.Errorf("flag --topic: %w", err)
	}
	observer := o.ForwardObserver()
	forwarder, err := inbox.NewTransformer(inbox.TransformConfig{
		Brokers:         cfg.KafkaBrokers,
		ClientOptions:   []kgo.Opt{kgo.SessionTimeout(cfg.SessionTimeout)},
		Group:           cfg.ForwardGroup,
		Topics:          []string{cfg.RawTopic},
		Transform:       func(_ context.Context, m *inbox.Message) ([]record.Record, error) { return eventOf(rows, m) },
		InstanceID:      cfg.InstanceID,
		DeadLetterTopic: cfg.DeadLetterTopic,
		CreateTopics:    cfg.CreateTopics,
		Logger:          o.Log,
		Observer:        observer,
	})
	if err != nil {
		return nil, err
	}
	observer.Watch(forwarder)
	return func(ctx context.Context) error {
		defer observer.Stop()
		return forwarder.Run(ctx)
	}, nil
}

// eventOf makes the event of a row. What is no row, or can never be published, goes to the dead-letter topic; what the connector or the
// mapping is to blame for waits, or each row would follow the first one there.
func eventOf(rows *record.RowDecoder, m *inbox.Message) ([]record.Record, error) {
	event, err := rows.Decode(m.Record.Value)
	switch {
	case errors.Is(err, record.ErrNotAnEvent):
		return nil, inbox.Permanent(err, "not_a_row")
	case errors.Is(err, record.ErrUnpublishable):
		return nil, inbox.Permanent(err, "unpublishable")
	case err != nil:
		return nil, err
	}
	return []record.Record{event}, nil
}
