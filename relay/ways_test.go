package relay_test

import (
	"errors"
	"regexp"
	"slices"
	"testing"

	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// onlyExactlyOnce are the causes that only a watermark can find, once the relay is started anew.
var onlyExactlyOnce = []relay.Cause{relay.SlotMoved, relay.IdentityChanged, relay.WatermarkUnusable, relay.TopicTruncated}

// The hint of a halt is a promise: who runs what it names, in that order, gets a relay that streams again.
func TestTheWayOnThatAHaltNamesEndsInARelayThatStreams(t *testing.T) {
	t.Parallel()
	for cause := relay.SlotMissing; cause <= relay.Unpublishable; cause++ {
		t.Run(cause.String(), func(t *testing.T) {
			t.Parallel()
			inEach(t, func(t *testing.T, delivery relay.Delivery) {
				if delivery == relay.AtLeastOnce && slices.Contains(onlyExactlyOnce, cause) {
					return
				}
				h := harms[cause]
				w := newInjured(t, h.alone)
				w.delivery = delivery
				err := w.injure(t, h)
				for first := true; ; first = false {
					w.follow(t, err, cause)
					if err = w.publishes(t); err == nil {
						return
					}
					if !first || cause != relay.PublicationMissing { // which is found before the rows that were written meanwhile
						t.Fatalf("Run on the way that its halt had named = %v, want no error", err)
					}
				}
			})
		})
	}
}

// publishes lets a relay publish an event. The error is what it halts with instead.
func (w *injured) publishes(t *testing.T) error {
	t.Helper()
	r := w.start(t)
	w.exec(t, insert("after"))
	eventually(t, "the next event on the topic, or a halt", func() bool {
		select {
		case s := <-r.states:
			return s == relay.StateHalted
		default:
			return slices.Contains(w.published(t), "after")
		}
	})
	return r.stop()
}

// step is what a hint can tell somebody to do.
type step struct {
	says *regexp.Regexp
	do   func(t *testing.T, w *injured, said string)
}

var steps = []step{
	{regexp.MustCompile(`walpost slot drop`), func(t *testing.T, w *injured, _ string) { w.dropSlot(t) }},
	{regexp.MustCompile(`walpost slot create --skip-existing`), func(t *testing.T, w *injured, _ string) {
		if err := pgwal.CreateSlotSkipping(t.Context(), pgwal.Config{URL: w.url, Slot: w.slot}); err != nil {
			t.Fatal(err)
		}
	}},
	{regexp.MustCompile(`walpost slot adopt`), func(t *testing.T, w *injured, _ string) {
		if w.delivery == relay.ExactlyOnce {
			w.adopt(t)
		}
	}},
	{regexp.MustCompile(`select pg_replication_slot_advance\('\w+', (?:'[^']*'|pg_current_wal_lsn\(\))\)`), runSQL},
	{regexp.MustCompile(`create publication [^(]*\([^)]*\)`), func(t *testing.T, w *injured, said string) {
		var there bool // which the hint leaves to whoever reads it
		if err := w.QueryRow(t.Context(), "select exists (select from pg_publication where pubname = 'walpost_outbox')").Scan(&there); err != nil {
			t.Fatal(err)
		}
		if !there {
			runSQL(t, w, said)
		}
	}},
	{regexp.MustCompile(`alter publication [^;]*`), runSQL},
	{regexp.MustCompile(`give the table its column back`), func(t *testing.T, w *injured, _ string) {
		w.exec(t, "alter table outbox_events add column traceparent text")
	}},
	{regexp.MustCompile(`raise max\.message\.bytes`), func(t *testing.T, w *injured, _ string) { w.limit(t, "100000") }},
	{regexp.MustCompile(`walpost topics create`), func(t *testing.T, w *injured, _ string) { w.broker.CreateTopic(t, "nowhere", 1) }},
}

func runSQL(t *testing.T, w *injured, said string) {
	t.Helper()
	eventually(t, said, func() bool { // the server may not have noticed yet that the relay is gone
		_, err := w.Exec(t.Context(), said)
		return err == nil
	})
}

// follow does what the hint of a halt names, in the order of its words.
func (w *injured) follow(t *testing.T, err error, cause relay.Cause) {
	t.Helper()
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != cause {
		t.Fatalf("Run = %v, want a halt of cause %v", err, cause)
	}
	type named struct {
		at int
		step
		said string
	}
	var way []named
	for _, s := range steps {
		for _, at := range s.says.FindAllStringIndex(halt.Hint, -1) {
			way = append(way, named{at[0], s, halt.Hint[at[0]:at[1]]})
		}
	}
	if len(way) == 0 {
		t.Fatalf("hint %q names nothing that can be done", halt.Hint)
	}
	slices.SortFunc(way, func(a, b named) int { return a.at - b.at })
	for _, n := range way {
		t.Logf("following: %s", n.said)
		n.do(t, w, n.said)
	}
}
