package inbox_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/inbox"
)

func TestMessagesAreAppliedOnceAndTheirOffsetsCommitted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"}, event{key: "a", value: "2"}, event{key: "a", value: "3"})
	m := w.start(nil)
	m.awaitResults(inbox.Done, 3)
	w.awaitCommitted(0, 3)
	m.mustStop()
	if diff := cmp.Diff([]string{"a=1", "a=2", "a=3"}, w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if n := w.count("inbox"); n != 3 {
		t.Errorf("inbox has %d rows, want 3", n)
	}
}

// O7: off by one on restart.
func TestARestartGoesOnWhereTheLastRunEnded(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 7} {
		t.Run(fmt.Sprintf("after %d messages", n), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i := range n {
				w.publish(event{key: "a", value: fmt.Sprint(i)})
			}
			first := w.start(nil)
			first.awaitReady()
			first.awaitResults(inbox.Done, n)
			first.mustStop()
			second := w.start(nil)
			second.awaitReady()
			w.publish(event{key: "a", value: "last"})
			second.awaitResults(inbox.Done, 1)
			second.mustStop()
			if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 1}, second.seen.all()); diff != "" {
				t.Errorf("results of the second run (-want +got):\n%s", diff)
			}
			if got := w.committed(topic, 0); got != int64(n+1) {
				t.Errorf("committed offset = %d, want %d", got, n+1)
			}
		})
	}
}

// B1: an unknown type wedges the partition or vanishes.
func TestAMessageOfAnUnknownTypeIsCountedAndPassed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1", eventType: "user.deleted"}, event{key: "a", value: "2"})
	m := w.start(nil)
	m.awaitResults(inbox.Done, 1)
	w.awaitCommitted(0, 2)
	m.mustStop()
	if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 1, inbox.Ignored: 1}, m.seen.all()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if n := w.count("inbox"); n != 1 {
		t.Errorf("inbox has %d rows, want 1: an ignored message needs none", n)
	}
}

// M2: the trace is lost on the way.
func TestTheTraceParentReachesTheHandler(t *testing.T) {
	t.Parallel()
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	w := newWorld(t)
	w.publish(event{key: "a", value: "1", headers: []kgo.RecordHeader{{Key: "traceparent", Value: []byte(trace)}}})
	got := make(chan [2]string, 1)
	m := w.start(func(c *inbox.Config) {
		c.Handlers[topic] = func(ctx context.Context, _ pgx.Tx, m *inbox.Message) error {
			span, _ := ctx.Value(spanKey{}).(string)
			got <- [2]string{m.TraceParent, span}
			return nil
		}
	})
	if diff := cmp.Diff([2]string{trace, trace}, receive(t, "the handler", got)); diff != "" {
		t.Errorf("message and context (-want +got):\n%s", diff)
	}
	m.awaitResults(inbox.Done, 1)
	if !m.seen.has(spans, trace+" <nil>") {
		t.Error("the span was not ended without an error")
	}
}
