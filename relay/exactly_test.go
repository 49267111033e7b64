package relay_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/relay"
)

// keeperSink is a script whose publisher keeps the watermark, and which wants to be prepared.
type keeperSink struct {
	scriptSink
	prepare func() error
	marks   []relay.Watermark // one a Publish
	at      []time.Time
}

func (s *keeperSink) Prepare(context.Context) error {
	if s.prepare != nil {
		return s.prepare()
	}
	return nil
}

func (s *keeperSink) Open(context.Context, relay.Origin) (relay.Publisher, relay.Watermark, error) {
	return keeper{scriptPublisher(s.scriptSink), s}, s.watermark, nil
}

type keeper struct {
	scriptPublisher
	sink *keeperSink
}

func (k keeper) Delivery() relay.Delivery    { return relay.ExactlyOnce }
func (k keeper) IdleInterval() time.Duration { return time.Second }

func (k keeper) Publish(ctx context.Context, events []relay.Event, w relay.Watermark) error {
	k.sink.marks, k.sink.at = append(k.sink.marks, w), append(k.sink.at, time.Now())
	return k.scriptPublisher.Publish(ctx, events, w)
}

type deliveries struct {
	recorder
	seen []relay.Delivery
}

func (d *deliveries) Delivering(v relay.Delivery) { d.seen = append(d.seen, v) }

func TestPositionsAloneAreHeldBackForAKeeperAndConfirmedAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := &script{origin: relay.Origin{SystemID: "1", Timeline: 3, Slot: "s"}, next: batches(
			relay.Batch{End: 11}, // at once: nothing was published lately
			relay.Batch{End: 12}, relay.Batch{End: 13},
			relay.Batch{Events: []relay.Event{event(20, 0)}}, // takes the position before it along
			relay.Batch{Events: []relay.Event{event(20, 1)}, End: 22},
			relay.Batch{End: 23}, relay.Batch{End: 24}, // nothing comes behind it
		)}
		sink := &keeperSink{scriptSink: scriptSink{s}}
		seen := &deliveries{}
		r, err := relay.New(s, sink, relay.Config{Observer: seen})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := r.Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if diff := cmp.Diff([]relay.LSN{11, 22, 24}, s.confirmed); diff != "" {
			t.Errorf("confirmed (-want +got):\n%s", diff)
		}
		want := []relay.Watermark{
			{Timeline: 3, End: 11},
			{Timeline: 3, Position: relay.Position{Commit: 20}, EventID: "0/14#0", End: 11},
			{Timeline: 3, Position: relay.Position{Commit: 20, Index: 1}, EventID: "0/14#1", End: 22},
			{Timeline: 3, Position: relay.Position{Commit: 20, Index: 1}, EventID: "0/14#1", End: 24},
		}
		if diff := cmp.Diff(want, sink.marks); diff != "" {
			t.Errorf("watermarks (-want +got):\n%s", diff)
		}
		if n := len(sink.at); n > 0 && sink.at[n-1].Sub(began) != time.Second {
			t.Errorf("the last position was held back for %v, want 1 s", sink.at[n-1].Sub(began))
		}
		if diff := cmp.Diff([]relay.Delivery{relay.ExactlyOnce}, seen.seen); diff != "" {
			t.Errorf("deliveries observed (-want +got):\n%s", diff)
		}
	})
}

func TestTheSourceIsNotOpenedBeforeTheSinkIsPrepared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := &script{}
		tries := 0
		sink := &keeperSink{scriptSink: scriptSink{s}, prepare: func() error {
			if tries++; tries <= 3 {
				return errInjected
			}
			return nil
		}}
		s.open = func(int) error {
			if tries != 4 {
				t.Errorf("source was opened after %d attempts to prepare the sink, want 4", tries)
			}
			return nil
		}
		r, err := relay.New(s, sink, relay.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(ctx); err != nil || s.opened != 1 {
			t.Errorf("Run = %v with %d opened sources, want nil with one", err, s.opened)
		}
	})
}

func TestAWatermarkThatDoesNotFitTheLogHalts(t *testing.T) {
	t.Parallel()
	mark := relay.Watermark{Timeline: 2, Position: relay.Position{Commit: 20, Index: 1}, EventID: "0/14#1", End: 22}
	origin := relay.Origin{SystemID: "1", Timeline: 2, Slot: "s", Confirmed: 10}
	changed := func(change func(*relay.Origin)) relay.Origin {
		o := origin
		change(&o)
		return o
	}
	other := event(30, 0)
	other.Position = mark.Position
	for name, tc := range map[string]struct {
		script script
		want   relay.Cause
		says   string
	}{
		"another timeline": {
			script: script{origin: changed(func(o *relay.Origin) { o.Timeline = 3 })}, want: relay.IdentityChanged, says: "does not lead there",
		},
		"a new slot": {
			script: script{origin: changed(func(o *relay.Origin) { o.Confirmed, o.Fresh = 30, true })}, want: relay.SlotMissing, says: "slot s is new",
		},
		"a slot that was moved": {
			script: script{origin: changed(func(o *relay.Origin) { o.Confirmed = 30 })}, want: relay.SlotMoved, says: "walpost slot adopt",
		},
		"another event at the watermark": {
			script: script{origin: origin, next: batches(relay.Batch{Events: []relay.Event{event(20, 0), other, event(20, 2)}, End: 22})},
			want:   relay.IdentityChanged, says: "this is another log",
		},
		"a log without the event at the watermark": {
			script: script{origin: origin, next: batches(relay.Batch{Events: []relay.Event{event(20, 0)}, End: 22}, relay.Batch{Events: []relay.Event{event(30, 0)}, End: 32})},
			want:   relay.IdentityChanged, says: "the log has none now",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.script.watermark = mark
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := newRelay(t, &tc.script, relay.Config{BackoffMin: time.Nanosecond}).Run(ctx)
			var halt *relay.HaltError
			if !errors.As(err, &halt) || halt.Cause != tc.want || halt.Hint == "" || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Run = %v, want a halt of cause %v that says %q", err, tc.want, tc.says)
			}
			if len(tc.script.published) != 0 || len(tc.script.confirmed) > 1 {
				t.Errorf("published %v and confirmed %v, want nothing published", tc.script.published, tc.script.confirmed)
			}
		})
	}
}

func TestASlotBehindTheWatermarkNeedsNoEventThatWasConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := &script{
			watermark: relay.Watermark{Timeline: 1, Position: relay.Position{Commit: 20}, EventID: "0/14#0", End: 40},
			origin:    relay.Origin{SystemID: "1", Timeline: 1, Slot: "s", Confirmed: 22}, // behind the event, before the last idle position
			next:      batches(relay.Batch{Events: []relay.Event{event(50, 0)}, End: 52}),
		}
		if err := newRelay(t, s, relay.Config{}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if diff := cmp.Diff([]relay.Position{{Commit: 50}}, s.published); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	})
}
