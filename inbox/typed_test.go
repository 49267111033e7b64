package inbox_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/inbox"
)

type placed struct {
	Order string
	Cents int
}

func TestAHandlerOfATypeGetsTheDecodedPayload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(
		event{key: "a", value: `{"order":"o-1","cents":1250,"currency":"EUR"}`},
		event{key: "b", value: `{"order":"o-2","cents":"a lot"}`},
		event{key: "c", value: `{"order":`},
		event{key: "d", value: ``},
	)
	handled := make(chan placed, 8)
	m := w.start(func(c *inbox.Config) {
		c.Handlers[topic] = inbox.On(func(_ context.Context, _ pgx.Tx, _ *inbox.Message, event placed) error {
			handled <- event
			return nil
		})
	})
	w.awaitCommitted(0, 4)
	m.mustStop()
	if diff := cmp.Diff(placed{Order: "o-1", Cents: 1250}, <-handled); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 1, inbox.Dead: 3}, m.seen.all()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	for _, r := range w.kafka.Records(t, deadLetters, 3, limit) {
		got := headers(r)
		if got["x-dlq-code"] != inbox.CodeUndecodable || !strings.Contains(got["__dlq.errors.message"], "inbox_test.placed") {
			t.Errorf("dead letter %s = %v, want the code %s and the type", r.Key, got, inbox.CodeUndecodable)
		}
	}
}
