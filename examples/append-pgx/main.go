// Command append-pgx writes a row and its event in one pgx transaction: both are there or neither is.
//
// Run it against `walpost dev`, or any database after `walpost migrate up`:
//
//	go run ./examples/append-pgx -database-url "$DATABASE_URL"
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

func main() {
	url := flag.String("database-url", "postgres://walpost@127.0.0.1:5433/walpost?sslmode=disable", "where the outbox is")
	eventType := flag.String("type", "example.order.placed", "event type; it names the topic")
	flag.Parse()
	if err := placeOrder(context.Background(), *url, *eventType); err != nil {
		log.Fatal(err)
	}
}

func placeOrder(ctx context.Context, url, eventType string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // the transaction has ended

	event := outbox.Event{
		ID: outbox.NewID(), AggregateType: "order", AggregateID: "42", Type: eventType, // of one order, events stay in order
		Payload: json.RawMessage(`{"order": 42, "total": "17.50"}`),
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// Your own writes come here; this table stands for yours.
		if _, err := tx.Exec(ctx, `create temporary table orders on commit drop as select 42 as id, 17.50 as total`); err != nil {
			return err
		}
		return outboxpgx.Append(ctx, tx, event)
	})
	if err != nil {
		return err
	}
	fmt.Println("committed; the relay will publish event", event.ID)
	return nil
}
