package relay_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/relay"
)

// awaySink cannot be opened the first times.
type awaySink struct {
	scriptSink
	away int
}

func (s *awaySink) Open(ctx context.Context, o relay.Origin) (relay.Publisher, relay.Watermark, error) {
	if s.away--; s.away >= 0 {
		return nil, relay.Watermark{}, errInjected
	}
	return s.scriptSink.Open(ctx, o)
}

func TestASlotThatMovesBeforeTheSinkWasEverOpenHalts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*relay.Origin)
		want   relay.Cause
	}{
		"moved":          {func(o *relay.Origin) { o.Confirmed = 100 }, relay.SlotMoved},
		"another server": {func(o *relay.Origin) { o.Timeline = 2 }, relay.IdentityChanged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				s := &script{origin: relay.Origin{SystemID: "1", Timeline: 1, Slot: "orders", Confirmed: 5}}
				s.open = func(attempt int) error {
					if attempt == 3 {
						tc.change(&s.origin)
					}
					return nil
				}
				r, err := relay.New(s, &awaySink{scriptSink{s}, 4}, relay.Config{})
				if err != nil {
					t.Fatal(err)
				}
				var halt *relay.HaltError
				if err := r.Run(ctx); !errors.As(err, &halt) || halt.Cause != tc.want || !strings.Contains(halt.Hint, "walpost slot status --slot orders") {
					t.Errorf("Run = %v, want a halt of cause %v that names the slot", err, tc.want)
				}
			})
		})
	}
}

func TestAHaltOfTheSourceNamesThePlaceThatWasReached(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		attempt int // to open the source that halts
		halt    relay.HaltError
		want    relay.LSN
	}{
		"which a slot that is gone does not know": {attempt: 2, want: 12},
		"unless it names another":                 {attempt: 2, halt: relay.HaltError{From: 7}, want: 7},
		"or nothing was reached":                  {attempt: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := movedSlot(func(*relay.Origin) {})
			tc.halt.Cause, tc.halt.Err = relay.SlotMissing, errInjected
			s.open = func(attempt int) error {
				if attempt == tc.attempt {
					return &tc.halt
				}
				return nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			var halt *relay.HaltError
			if err := newRelay(t, s, relay.Config{BackoffMin: time.Nanosecond}).Run(ctx); !errors.As(err, &halt) || halt.From != tc.want {
				t.Errorf("Run = %v, want a halt at %s", err, tc.want)
			}
		})
	}
}

func TestASinkThatDoesNotAnswerIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		waits := []time.Duration{time.Second, 8 * time.Second, time.Second, 8 * time.Second}
		published := 0
		s := &script{
			next: batches(
				relay.Batch{Events: []relay.Event{event(10, 0)}, End: 12}, relay.Batch{Events: []relay.Event{event(20, 0)}, End: 22},
				relay.Batch{Events: []relay.Event{event(30, 0)}, End: 32}, relay.Batch{Events: []relay.Event{event(40, 0)}, End: 42},
			),
			publish: func(context.Context, []relay.Event) error {
				<-time.After(waits[published])
				if published++; published == len(waits) {
					return errInjected
				}
				return nil
			},
			open: func(attempt int) error {
				if attempt == 2 {
					cancel()
					return errInjected
				}
				return nil
			},
		}
		seen := &recorder{}
		var logged bytes.Buffer
		if err := newRelay(t, s, relay.Config{Observer: seen, Logger: slog.New(slog.NewTextHandler(&logged, nil))}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		want := []string{"starting", "streaming", "stalled", "streaming", "stalled", "retrying", "stopped"}
		if diff := cmp.Diff(want, seen.states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if !strings.Contains(logged.String(), "1 events up to 0/14#0 have not been acknowledged for 5s") {
			t.Errorf("log = %s, want the batch that is not acknowledged", &logged)
		}
	})
}

func TestASessionThatLastedStartsTheCountOfFailuresAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var pause time.Duration
		var ended time.Time
		s := &script{open: func(attempt int) error {
			pause = time.Since(ended)
			ended = time.Now()
			switch {
			case attempt == 10:
				cancel()
			case attempt < 9:
				return errInjected
			}
			return nil
		}}
		s.next = func(int) (relay.Batch, error) { // of the ninth session, in which nothing happens for a while
			<-time.After(3 * time.Second)
			ended = time.Now()
			return relay.Batch{}, errInjected
		}
		cfg := relay.Config{BackoffMin: 100 * time.Millisecond, BackoffMax: 2 * time.Second}
		if err := newRelay(t, s, cfg).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if pause > 100*time.Millisecond {
			t.Errorf("pause after a session of 3 s = %v, want at most 100 ms", pause)
		}
	})
}
