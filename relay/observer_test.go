package relay_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/relay"
)

// diary writes down what it is told about batches, in order.
type diary struct{ lines []string }

func (d *diary) StateChanged(relay.State, error) {}

func (d *diary) say(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) Waiting(events []relay.Event) {
	d.say("%d wait, the oldest at %s", len(events), events[0].Position)
}

type inSpan struct{}

func (d *diary) StartSpan(ctx context.Context, events []relay.Event) (context.Context, func(error)) {
	d.say("span of %d begins", len(events))
	return context.WithValue(ctx, inSpan{}, true), func(err error) { d.say("span ends with %v", err) }
}

func (d *diary) Published(events []relay.Event, _ time.Duration) {
	d.say("%d published, the last at %s", len(events), events[len(events)-1].Position)
}

func (d *diary) Confirmed(end relay.LSN) { d.say("confirmed %s", end) }
func (d *diary) DeadLettered(ev *relay.Event, why *relay.HaltError) {
	d.say("%s is dead: %s", ev.Position, why.Cause)
}
func (d *diary) TransactionEnded(o relay.Outcome) { d.say("transaction %s", o) }

// reporterSink is a script whose publisher reports a transaction for each Publish.
type reporterSink struct{ scriptSink }

func (s reporterSink) Open(context.Context, relay.Origin) (relay.Publisher, relay.Watermark, error) {
	return &reporter{scriptPublisher: scriptPublisher(s.scriptSink)}, s.watermark, nil
}

type reporter struct {
	scriptPublisher
	ended  func(relay.Outcome)
	buried func(*relay.Event, *relay.HaltError)
}

func (r *reporter) Report(ended func(relay.Outcome)) { r.ended = ended }

func (r *reporter) ReportDead(buried func(*relay.Event, *relay.HaltError)) { r.buried = buried }

func (r *reporter) Publish(ctx context.Context, events []relay.Event, w relay.Watermark) error {
	err := r.scriptPublisher.Publish(ctx, events, w)
	if err != nil {
		r.ended(relay.Aborted)
	} else {
		r.ended(relay.Committed)
		if len(events) > 0 {
			r.buried(&events[0], &relay.HaltError{Cause: relay.EventTooLarge})
		}
	}
	return err
}

func TestAnObserverIsToldOfEventsBeforeAndAfterTheyArePublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		failures := 1
		s := &script{publish: func(ctx context.Context, events []relay.Event) error {
			if spanning := ctx.Value(inSpan{}) != nil; spanning != (len(events) > 0) {
				t.Errorf("context of %d events is that of a span: %v", len(events), spanning)
			}
			if failures--; failures == 0 {
				return errInjected
			}
			return nil
		}}
		s.next = func(call int) (relay.Batch, error) {
			switch call {
			case 1, 2: // the second time for the next session
				return relay.Batch{Events: []relay.Event{event(10, 0), event(10, 1)}, End: 12}, nil
			case 3:
				return relay.Batch{End: 20}, nil
			}
			return relay.Batch{}, nil
		}
		seen := &diary{}
		r, err := relay.New(s, reporterSink{scriptSink{s}}, relay.Config{Observer: seen})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		want := []string{
			"2 wait, the oldest at 0/A#0", "span of 2 begins", "transaction aborted", "span ends with injected",
			"2 wait, the oldest at 0/A#0", "span of 2 begins", "transaction committed", "0/A#0 is dead: event_too_large", "span ends with <nil>", "2 published, the last at 0/A#1", "confirmed 0/C",
			"transaction committed", "confirmed 0/14", // a position alone keeps nobody waiting
		}
		if diff := cmp.Diff(want, seen.lines); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// slowly takes its time to hear that the relay is stalled, and notices what it is told meanwhile.
type slowly struct {
	busy, overlapped atomic.Bool
	begun            chan struct{} // closed when it hears of the stall
	more             chan struct{} // closed when it is told something else before it is done
}

func (o *slowly) StateChanged(s relay.State, _ error) {
	if s != relay.StateStalled {
		return
	}
	o.busy.Store(true)
	defer o.busy.Store(false)
	close(o.begun)
	select {
	case <-o.more:
	case <-time.After(100 * time.Millisecond): // long enough for a call that does not wait
	}
}

func (o *slowly) TransactionEnded(relay.Outcome) {
	if o.busy.Load() && o.overlapped.CompareAndSwap(false, true) {
		close(o.more)
	}
}

func (o *slowly) DeadLettered(*relay.Event, *relay.HaltError) {}

func TestAnObserverIsToldOneThingAtATime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := &slowly{begun: make(chan struct{}), more: make(chan struct{})}
	s := &script{publish: func(ctx context.Context, _ []relay.Event) error {
		select {
		case <-seen.begun:
			cancel()
		case <-ctx.Done():
			t.Error("the observer never heard of the stall")
		}
		return nil
	}}
	s.next = func(call int) (relay.Batch, error) {
		if call > 1 {
			return relay.Batch{}, nil
		}
		return relay.Batch{Events: []relay.Event{event(10, 0)}, End: 12}, nil
	}
	r, err := relay.New(s, reporterSink{scriptSink{s}}, relay.Config{Observer: seen, StallAfter: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(ctx); err != nil {
		t.Fatalf("Run = %v, want nil", err)
	}
	if seen.overlapped.Load() {
		t.Error("the observer was told of a transaction while it still heard of the stall, want one after the other")
	}
}
