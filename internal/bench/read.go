package bench

import (
	"cmp"
	"context"

	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// ReadResult is what Read found.
type ReadResult struct {
	Events int `json:"events"`
}

// Read reads the slot up to the position through walpost's own engine and source, throws every event away and confirms it: reading and decoding alone,
// without Kafka. It returns when everything up to the position is confirmed. The slot must exist and be free; what a relay would wait for or try again is
// an error here, because it would be measured too, and ctx's end before the position is reached is one.
func Read(ctx context.Context, cfg pgwal.Config, until relay.LSN) (ReadResult, error) {
	cfg.RequireSlot = true
	source, err := pgwal.New(cfg)
	if err != nil {
		return ReadResult{}, err
	}
	reading, done := context.WithCancel(ctx)
	defer done()
	sink := &nowhere{until: until, done: done}
	engine, err := relay.New(source, sink, relay.Config{Logger: cfg.Logger, Observer: sink})
	if err != nil {
		return ReadResult{}, err
	}
	if err := engine.Run(reading); err != nil {
		return ReadResult{}, err
	}
	if !sink.reached {
		return ReadResult{}, cmp.Or(sink.trouble, context.Cause(ctx))
	}
	return ReadResult{Events: sink.events}, nil
}

// nowhere is a sink that counts and keeps nothing. The engine uses it from one goroutine.
type nowhere struct {
	until   relay.LSN
	done    context.CancelFunc
	events  int
	reached bool
	trouble error
}

// StateChanged implements relay.Observer: a session that failed is the last.
func (n *nowhere) StateChanged(s relay.State, cause error) {
	if s == relay.StateRetrying || s == relay.StateStandby {
		n.trouble = cause
		n.done()
	}
}

func (n *nowhere) Open(context.Context, relay.Origin) (relay.Publisher, relay.Watermark, error) {
	return n, relay.Watermark{}, nil
}

func (n *nowhere) Publish(_ context.Context, events []relay.Event, w relay.Watermark) error {
	n.events += len(events)
	if w.End >= n.until {
		n.reached = true
		n.done()
	}
	return nil
}

func (n *nowhere) Close() error { return nil }
