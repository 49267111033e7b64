package outboxtest_test

import (
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxtest"
)

// In a test of code that appends: the id is not known beforehand, so it is left out.
func ExampleAppendedPgx() {
	_ = func(t *testing.T, tx pgx.Tx, register func(tx pgx.Tx, name string)) {
		register(tx, "ada")
		outboxtest.AppendedPgx(t, tx, outbox.Event{
			AggregateType: "user",
			AggregateID:   "ada",
			Type:          "user.registered",
			Payload:       json.RawMessage(`{"plan": "free"}`),
		})
	}
}
