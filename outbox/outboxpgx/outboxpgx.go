// Package outboxpgx appends events to the outbox table in the caller's own pgx transaction.
//
// It is package outbox for pgx.Tx, not a second implementation: the rules, the statement and the errors are outbox's,
// so the two behave alike. It imports pgx and outbox, nothing else.
package outboxpgx

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/outbox"
)

// Appender appends events through pgx. Its zero value is ready for use; fields and concurrency are those of
// outbox.Appender.
type Appender struct {
	// Table is the outbox table, "name" or "schema.name". Defaults to outbox_events.
	Table string
	// TraceParent returns the W3C traceparent of the span in ctx, or "" for none. Defaults to none.
	TraceParent func(ctx context.Context) string
}

// Append is Appender.Append of the zero Appender: it writes to outbox_events.
func Append(ctx context.Context, tx pgx.Tx, events ...outbox.Event) error {
	return Appender{}.Append(ctx, tx, events...)
}

// Append adds the events to the transaction as outbox.Appender.Append does, with the same errors.
func (a Appender) Append(ctx context.Context, tx pgx.Tx, events ...outbox.Event) error {
	st, err := outbox.Appender(a).Statement(ctx, events...)
	if err != nil || len(events) == 0 {
		return err
	}
	tag, err := tx.Exec(ctx, st.SQL, st.Args...)
	return st.Check(tag.RowsAffected(), err)
}
