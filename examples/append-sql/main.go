// Command append-sql writes a row and its event in one database/sql transaction: both are there or neither is.
//
// Run it against `walpost dev`, or any database after `walpost migrate up`:
//
//	go run ./examples/append-sql -database-url "$DATABASE_URL"
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"log"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"; any other for PostgreSQL does as well

	"github.com/walpost/walpost/outbox"
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
	db, err := sql.Open("pgx", url)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // the transaction has ended
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after the commit

	// Your own writes come here; this table stands for yours.
	if _, err := tx.ExecContext(ctx, `create temporary table orders on commit drop as select 42 as id, 17.50 as total`); err != nil {
		return err
	}
	event := outbox.Event{
		ID: outbox.NewID(), AggregateType: "order", AggregateID: "42", Type: eventType, // of one order, events stay in order
		Payload: json.RawMessage(`{"order": 42, "total": "17.50"}`),
	}
	if err := outbox.Append(ctx, tx, event); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	fmt.Println("committed; the relay will publish event", event.ID)
	return nil
}
