// Package relay is the engine that carries committed events from a Source to a Sink, in commit order, exactly once or at least once.
//
// It knows neither PostgreSQL's protocol nor Kafka's: relay/pgwal is the Source that reads the write-ahead log, relay/kafkasink the Sink
// that publishes. Whether an event can appear twice after a fault is the Sink's choice: one that keeps the watermark durably, in the same
// transaction as the events, makes the delivery exactly once, and the engine is the same.
//
// The invariant: a position is confirmed to the Source only when every event up to it has been acknowledged by the Sink. Hence whatever is
// lost with this process is still in the Source. Everything follows from that by crashing: each error ends the session, both ends are
// closed, and the only recovery is the way every session starts.
//
// docs/guarantees.md lists the rules that follow from it, every halt, and the tests of each.
//
// The words: a batch is a run of events in commit order; the watermark is the highest event that the Sink holds; to confirm is to tell the
// Source what it may forget; to halt is to end with a *HaltError because no retry can mend the cause.
package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Relay joins one Source to one Sink. Make it with New.
type Relay struct {
	source Source
	sink   Sink
	cfg    Config
}

// New checks the configuration; it opens nothing.
func New(source Source, sink Sink, cfg Config) (*Relay, error) {
	if source == nil || sink == nil {
		return nil, errors.New("relay: a source and a sink are needed")
	}
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return &Relay{source: source, sink: sink, cfg: cfg}, nil
}

// Run relays until ctx ends or the relay halts. Causes that pass by themselves (a server that restarts, a broker that is away, a slot that
// another relay holds) are retried with back-off for as long as it takes. A cause that no retry mends is returned at once as a *HaltError.
//
// When ctx ends, the batch being published is finished within Config.Drain, confirmed, and Run returns nil: a relay that is stopped so and
// started again repeats nothing. Only one Run may be active on a Relay at a time.
func (r *Relay) Run(ctx context.Context) error {
	run := &run{source: r.source, sink: r.sink, cfg: r.cfg}
	run.enter(StateStarting, nil)
	for {
		err := run.session(ctx)
		var halt *HaltError
		if errors.As(err, &halt) {
			run.locate(halt)
			run.enter(StateHalted, err)
			return err
		}
		if ctx.Err() == nil {
			run.pause(ctx, err)
		}
		if ctx.Err() != nil {
			run.stopped(err)
			return nil
		}
	}
}

// run is what one call of Run remembers from session to session.
type run struct {
	source Source
	sink   Sink
	cfg    Config

	telling sync.Mutex // held while the Observer is told something

	state     State
	delivery  Delivery
	failures  int      // sessions in a row that published nothing
	origin    Origin   // of the latest session
	holds     bool     // nobody else has had the slot since this run took hold of it, which is what the two below are about
	confirmed LSN      // highest position confirmed
	sent      Position // no event above it was handed to a Publisher
}

// stopped ends a run whose context has ended; err is how its last session ended.
func (r *run) stopped(err error) {
	if errors.Is(err, errUndrained) {
		r.cfg.Logger.Warn("relay was stopped before its last batch was acknowledged: the next start publishes it again", "error", err)
	}
	r.enter(StateStopped, nil)
}

func (r *run) enter(s State, cause error) {
	changed := r.state != s
	r.state = s
	if s == StateRetrying || changed {
		r.observe(s, cause)
	}
	log := r.cfg.Logger
	switch {
	case s == StateRetrying:
		log.Warn("relay cannot go on and tries again", "error", cause)
	case changed && s == StateStalled:
		log.Warn("relay is stalled", "error", cause)
	case changed && s == StateStandby:
		log.Info("relay is standing by for the slot", "reason", cause)
	case changed && s == StateStreaming:
		log.Info("relay is streaming", "slot", r.origin.Slot, "system_id", r.origin.SystemID, "timeline", r.origin.Timeline,
			"confirmed_lsn", r.origin.Confirmed.String(), "delivery", r.delivery.String())
	case changed && s == StateStopped:
		log.Info("relay has stopped", "confirmed_lsn", r.confirmed.String())
	}
}

// pause waits before the next session: shortly for a standby, longer after each failure in a row.
func (r *run) pause(ctx context.Context, err error) {
	wait := jitter(r.cfg.StandbyInterval)
	if errors.Is(err, ErrStandby) {
		r.enter(StateStandby, err)
		r.holds = false // from here on somebody else moves the slot
	} else {
		r.enter(StateRetrying, err)
		wait = r.backoff(err)
		r.failures++
	}
	r.cfg.Logger.Debug("relay waits before it starts again", "seconds", wait.Seconds(), slog.Int("failures", r.failures))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
