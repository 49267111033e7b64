package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/walpost/walpost/outbox"
)

// The event is written in the transaction of the fact that it states.
func ExampleAppend() {
	_ = func(ctx context.Context, tx *sql.Tx, userID string) error {
		if _, err := tx.ExecContext(ctx, `insert into users (id) values ($1)`, userID); err != nil {
			return err
		}
		return outbox.Append(ctx, tx, outbox.Event{
			AggregateType: "user",
			AggregateID:   userID,
			Type:          "user.registered",
			Payload:       json.RawMessage(`{"plan": "free"}`),
		})
	}
}

// An appender of one's own writes to another table and captures trace contexts. With OpenTelemetry the hook reads:
//
//	carrier := propagation.MapCarrier{}
//	propagation.TraceContext{}.Inject(ctx, carrier)
//	return carrier.Get("traceparent")
func ExampleAppender() {
	type span struct{}
	appender := outbox.Appender{
		Table: "shop.outbox",
		TraceParent: func(ctx context.Context) string {
			traceParent, _ := ctx.Value(span{}).(string)
			return traceParent
		},
	}
	ctx := context.WithValue(context.Background(), span{}, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	st, err := appender.Statement(ctx, outbox.Event{AggregateType: "order", AggregateID: "42", Type: "order.placed"})
	fmt.Println(st.Args[6], err)
	// Output: {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} <nil>
}

// What no consumer could get is refused before anything is sent.
func ExampleEventError() {
	_, err := outbox.Appender{}.Statement(context.Background(),
		outbox.Event{AggregateType: "user", AggregateID: "42", Type: "user.registered"},
		outbox.Event{AggregateType: "user", AggregateID: "43", Type: "user.registered", Payload: json.RawMessage(`{"plan": }`)},
	)
	fmt.Println(err)
	var refusal *outbox.EventError
	fmt.Println(errors.As(err, &refusal), refusal.Index, refusal.Field, errors.Is(err, outbox.ErrInvalidEvent))
	// Output:
	// invalid event 1: Payload is not valid JSON
	// true 1 Payload true
}

// Statement is for drivers and batches that have no Append: send the SQL, then check the outcome.
func ExampleAppender_Statement() {
	send := func(query string, args ...any) (rowsAffected int64, err error) { return 1, nil } // your driver's
	st, err := outbox.Appender{}.Statement(context.Background(),
		outbox.Event{AggregateType: "user", AggregateID: "42", Type: "user.registered"},
		outbox.Event{AggregateType: "user", AggregateID: "43", Type: "user.registered"},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(st.Args[2])
	fmt.Println(st.Check(send(st.SQL, st.Args...)))
	// Output:
	// {"42","43"}
	// append 2 events to "outbox_events": the table took 1 rows: a trigger or rule on it suppresses the others
}

func ExampleParseID() {
	id, err := outbox.ParseID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
	fmt.Println(id, err)
	// Output: 017f22e2-79b0-7cc3-98c4-dc0c0c07398f <nil>
}
