package relay_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/walpost/walpost/relay"
)

// runWorld relays a drawn log under drawn faults until all of it is confirmed, and returns the world.
func runWorld(t *rapid.T, atomic bool) *world {
	budget := rapid.IntRange(0, 12).Draw(t, "faults") // so that every run comes to an end
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w := &world{
		atomic: atomic, done: cancel, tail: 100,
		pick: func(n int, what string) int { return rapid.IntRange(0, n).Draw(t, what) },
		fault: func(what string) bool {
			if budget == 0 || rapid.IntRange(0, 4).Draw(t, what) != 0 {
				return false
			}
			budget--
			return true
		},
	}
	for _, n := range rapid.SliceOfN(rapid.IntRange(0, 5), 1, 12).Draw(t, "transactions") {
		w.addCommit(n)
	}
	r, err := relay.New(w, fakeSink{w}, relay.Config{BackoffMin: time.Nanosecond, BackoffMax: time.Nanosecond, StandbyInterval: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(ctx); err != nil {
		t.Fatalf("Run = %v, want nil", err)
	}
	if w.broken != nil {
		t.Fatal(w.broken)
	}
	if w.slot < w.tail {
		t.Fatalf("slot stands at %s after 20 s, want %s", w.slot, w.tail)
	}
	return w
}

func positions(events []relay.Event) []relay.Position {
	out := []relay.Position{}
	for _, e := range events {
		out = append(out, e.Position)
	}
	return out
}

func logged(w *world) []relay.Position {
	out := []relay.Position{}
	for _, c := range w.log {
		out = append(out, positions(c.events)...)
	}
	return out
}

func TestEveryEventIsPublishedInCommitOrderWhateverFails(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := runWorld(t, false)
		first := []relay.Position{}
		for _, p := range positions(w.topic) {
			if !slices.Contains(first, p) {
				first = append(first, p)
			}
		}
		if diff := cmp.Diff(logged(w), first); diff != "" {
			t.Fatalf("first appearances in the topic (-committed +published):\n%s", diff)
		}
	})
}

func TestASinkWithADurableWatermarkGetsEveryEventOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := runWorld(t, true)
		if diff := cmp.Diff(logged(w), positions(w.topic)); diff != "" {
			t.Fatalf("topic (-committed +published):\n%s", diff)
		}
	})
}
