// Package outbox appends events to the outbox table in the caller's own transaction, so that the event exists if and
// only if the transaction commits.
//
// It is the write side of walpost for database/sql; package outboxpgx is the same for pgx, and outboxtest holds
// assertions for a user's tests. It publishes nothing, opens no connection and starts no goroutine: a relay reads the
// committed rows from the write-ahead log. It imports the standard library only.
//
// The invariant it keeps: what Append accepts, the table accepts, the relay can publish and a consumer can read. An
// event that would not get through is refused with an *EventError before anything is sent.
package outbox

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	"github.com/walpost/walpost/outbox/internal/ident"
	"github.com/walpost/walpost/outbox/internal/pgarray"
)

// DefaultTable is the table that Append writes to, made by walpost's migrations.
const DefaultTable = "outbox_events"

// Appender appends events. Its zero value is ready for use. It is a plain value, not changed after use and safe for
// concurrent use if its hook is.
type Appender struct {
	// Table is the outbox table: "name", found through the search path, or "schema.name". Both are taken literally,
	// capitals included, and quoted here. Defaults to outbox_events.
	Table string
	// TraceParent returns the W3C traceparent of the span in ctx, or "" for none. It is called once a call and serves
	// the events that bring none. With OpenTelemetry it injects propagation.TraceContext into a map and returns the
	// entry "traceparent". Defaults to none.
	TraceParent func(ctx context.Context) string
}

// Append is Appender.Append of the zero Appender: it writes to outbox_events.
func Append(ctx context.Context, tx *sql.Tx, events ...Event) error {
	return Appender{}.Append(ctx, tx, events...)
}

// Append adds the events, in this order, to the transaction, which stays the caller's to commit or roll back. Any
// number of events is one statement and one round trip (after the one with which a driver may prepare the statement on
// a new connection); none is nothing. The caller's slice is not changed.
//
// An event that could not be carried is refused with an *EventError before anything is sent. After any other error roll
// back, to a savepoint or as a whole: as a rule it is the database's, and the transaction has failed. The database role
// needs INSERT on the table and nothing else.
func (a Appender) Append(ctx context.Context, tx *sql.Tx, events ...Event) error {
	st, err := a.Statement(ctx, events...)
	if err != nil || len(events) == 0 {
		return err
	}
	result, err := tx.ExecContext(ctx, st.SQL, st.Args...)
	if err != nil {
		return st.Check(0, err)
	}
	return st.Check(result.RowsAffected())
}

// Statement is what Append sends: one insert for all events of a call. It is there for drivers that have no Append of
// their own, and for batches.
type Statement struct {
	SQL    string // constant for a table
	Args   []any  // seven strings, each an array literal, whatever the number of events
	events int64
	table  string
}

// Statement validates the events as Append does and returns the statement that appends them. It needs no database.
// Without events there is nothing to send.
func (a Appender) Statement(ctx context.Context, events ...Event) (Statement, error) {
	table, err := ident.Table(cmp.Or(a.Table, DefaultTable))
	if err != nil || len(events) == 0 {
		return Statement{}, err
	}
	events = a.complete(ctx, events)
	if err := validate(events); err != nil {
		return Statement{}, err
	}
	return Statement{SQL: insertInto(table), Args: columns(events), events: int64(len(events)), table: table}, nil
}

// Check turns the outcome of the statement, the number of rows it inserted and the driver's error, into Append's:
// rows that a trigger or a rule suppressed are an error too, because their events would be lost without a word.
func (s Statement) Check(rows int64, err error) error {
	if err != nil {
		return fmt.Errorf("append %d events to %s: %w%s", s.events, s.table, err, hint(err))
	}
	if rows != s.events {
		return fmt.Errorf("append %d events to %s: the table took %d rows: a trigger or rule on it suppresses the others", s.events, s.table, rows)
	}
	return nil
}

// complete returns a copy of the events with the ids and trace contexts that the caller left out. Ids made in one
// call ascend strictly, at the price of running ahead of the clock by a tick an event.
func (a Appender) complete(ctx context.Context, events []Event) []Event {
	events = slices.Clone(events)
	traceParent := ""
	if a.TraceParent != nil {
		traceParent = a.TraceParent(ctx)
	}
	last := uint64(0)
	for i := range events {
		if events[i].ID.IsZero() {
			last = max(last+1, tick(time.Now()))
			events[i].ID = newID(last)
		}
		if events[i].TraceParent == "" {
			events[i].TraceParent = traceParent
		}
	}
	return events
}

// insertInto keeps the order of the events by the ordinality, by which PostgreSQL knows the function's rows to be
// sorted already.
func insertInto(table string) string {
	return `insert into ` + table + ` (id, aggregate_type, aggregate_id, event_type, payload, headers, traceparent)
select id, aggregate_type, aggregate_id, event_type, payload, headers, traceparent
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::json[], $6::jsonb[], $7::text[])
with ordinality as e(id, aggregate_type, aggregate_id, event_type, payload, headers, traceparent, position)
order by position`
}

// columns turns rows into columns: one array literal a parameter of insertInto.
func columns(events []Event) []any {
	var cols [7]pgarray.Literal
	for _, ev := range events {
		cols[0].Append(ev.ID.String())
		cols[1].Append(ev.AggregateType)
		cols[2].Append(ev.AggregateID)
		cols[3].Append(ev.Type)
		cols[4].AppendOrNull(string(ev.Payload), ev.Payload != nil)
		cols[5].AppendOrNull(headersText(ev.Headers), ev.Headers != nil)
		cols[6].AppendOrNull(ev.TraceParent, ev.TraceParent != "")
	}
	args := make([]any, len(cols))
	for i := range cols {
		args[i] = cols[i].String()
	}
	return args
}
