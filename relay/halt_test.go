package relay_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/relay"
)

func TestHaltsEndRunAtOnceWithTheirExitCode(t *testing.T) {
	t.Parallel()
	halt := &relay.HaltError{Cause: relay.SlotLost, From: 0x10, To: 0x20, Err: errInjected, Hint: "walpost slot status"}
	s := &script{open: func(int) error { return fmt.Errorf("wrapped: %w", halt) }}
	seen := &recorder{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := newRelay(t, s, relay.Config{Observer: seen}).Run(ctx)
	var got *relay.HaltError
	if !errors.As(err, &got) || got.Cause != relay.SlotLost || got.Cause.ExitCode() != 11 || !errors.Is(err, errInjected) {
		t.Fatalf("Run = %v, want the halt", err)
	}
	if want := "relay halted (slot_lost): injected (LSN 0/10 to 0/20); next: walpost slot status"; halt.Error() != want {
		t.Errorf("Error() = %q, want %q", halt.Error(), want)
	}
	if s.opened != 1 {
		t.Errorf("source was opened %d times, want 1", s.opened)
	}
	if diff := cmp.Diff([]string{"starting", "halted"}, seen.states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestEveryCauseHasItsOwnNameAndExitCode(t *testing.T) {
	t.Parallel()
	names, codes := map[string]bool{}, map[int]bool{}
	for c := relay.SlotMissing; c <= relay.Unpublishable; c++ {
		names[c.String()], codes[c.ExitCode()] = true, true
		if code := c.ExitCode(); code < 10 || code > 21 {
			t.Errorf("%v.ExitCode() = %d, want 10 to 21", c, code)
		}
	}
	if len(names) != 12 || len(codes) != 12 {
		t.Errorf("twelve causes have %d names and %d exit codes, want twelve each", len(names), len(codes))
	}
	if got := relay.Cause(0).ExitCode(); got != 1 {
		t.Errorf("Cause(0).ExitCode() = %d, want 1", got)
	}
}

func TestEventsAtOrBelowTheWatermarkAreSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		seen := &recorder{}
		s := &script{
			watermark: relay.Watermark{Position: relay.Position{Commit: 20, Index: 1}, EventID: "0/14#1", End: 12},
			next: batches(
				relay.Batch{Events: []relay.Event{event(10, 0)}, End: 12},
				relay.Batch{Events: []relay.Event{event(20, 0), event(20, 1), event(20, 2)}, End: 22},
			),
		}
		if err := newRelay(t, s, relay.Config{Observer: seen}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if diff := cmp.Diff([]relay.Position{{Commit: 20, Index: 2}}, s.published); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		if seen.skipped != 3 {
			t.Errorf("observer saw %d skipped events, want 3", seen.skipped)
		}
	})
}

func TestAnotherHistoryHalts(t *testing.T) {
	t.Parallel()
	mark := relay.Watermark{Position: relay.Position{Commit: 20}, EventID: "0/14#0", End: 22}
	for name, tc := range map[string]struct {
		script *script
		want   relay.Cause
	}{
		"another event at the watermark": {
			script: &script{watermark: relay.Watermark{Position: mark.Position, EventID: "other"}, next: batches(relay.Batch{Events: []relay.Event{event(20, 0)}, End: 22})},
			want:   relay.IdentityChanged,
		},
		"a slot beyond what the sink holds": {
			script: &script{watermark: mark, origin: relay.Origin{Confirmed: 23}},
			want:   relay.SlotMoved,
		},
		"a slot that moved between two sessions": {
			script: movedSlot(func(o *relay.Origin) { o.Confirmed = 13 }),
			want:   relay.SlotMoved,
		},
		"another cluster between two sessions": {
			script: movedSlot(func(o *relay.Origin) { o.SystemID = "2" }),
			want:   relay.IdentityChanged,
		},
		"another timeline between two sessions": {
			script: movedSlot(func(o *relay.Origin) { o.Timeline = 2 }),
			want:   relay.IdentityChanged,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := newRelay(t, tc.script, relay.Config{BackoffMin: time.Nanosecond}).Run(ctx)
			var halt *relay.HaltError
			if !errors.As(err, &halt) || halt.Cause != tc.want || halt.Hint == "" {
				t.Errorf("Run = %v, want a halt of cause %v with a hint", err, tc.want)
			}
		})
	}
}

// movedSlot publishes one event, loses its connection, and finds the origin changed.
func movedSlot(change func(*relay.Origin)) *script {
	s := &script{origin: relay.Origin{SystemID: "1", Timeline: 1, Slot: "s", Confirmed: 5}}
	s.next = func(call int) (relay.Batch, error) {
		if call == 1 {
			return relay.Batch{Events: []relay.Event{event(10, 0)}, End: 12}, nil
		}
		change(&s.origin)
		return relay.Batch{}, errInjected
	}
	return s
}

func TestASlotMovedByTheRelayThatTookOverIsNoGap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := movedSlot(func(o *relay.Origin) { o.Confirmed = 100 })
		s.open = func(attempt int) error {
			switch attempt {
			case 2:
				return relay.ErrStandby
			case 4:
				cancel()
			}
			return nil
		}
		if err := newRelay(t, s, relay.Config{}).Run(ctx); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

func TestASourceThatGoesBackIsNotTrusted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &script{next: batches(relay.Batch{Events: []relay.Event{event(20, 0)}, End: 22}, relay.Batch{Events: []relay.Event{event(10, 0)}, End: 12})}
		s.open = func(attempt int) error {
			if attempt == 2 {
				cancel()
			}
			return nil
		}
		if err := newRelay(t, s, relay.Config{}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if diff := cmp.Diff([]relay.Position{{Commit: 20}}, s.published); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	})
}
