package outboxpgx_test

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

// Fact and event are committed together.
func ExampleAppend() {
	_ = func(ctx context.Context, pool *pgxpool.Pool, userID string) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `insert into users (id) values ($1)`, userID); err != nil {
				return err
			}
			return outboxpgx.Append(ctx, tx, outbox.Event{
				AggregateType: "user",
				AggregateID:   userID,
				Type:          "user.registered",
				Payload:       json.RawMessage(`{"plan": "free"}`),
			})
		})
	}
}
