// Package outboxtest asserts, in the tests of a program that uses outbox, which events a transaction has appended.
//
// It looks at the rows that the given transaction inserted and that no savepoint took back, and at nothing else: what
// other transactions appended, before or meanwhile, does not count, so the tests may share a database and roll back.
// It is no relay: nothing is published. It needs the privilege to select from the table, and imports the standard
// library, pgx and outbox.
package outboxtest

import (
	"cmp"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/internal/ident"
)

// Table is the outbox table to look at, as in outbox.Appender. The zero value is outbox_events, which the functions
// of this package use.
type Table string

// Appended fails the test unless the transaction has appended exactly the wanted events, in that order. It may be
// called several times and leaves the transaction as it is.
//
// In a wanted event a zero ID stands for any id and an empty TraceParent for any trace context. The others must be
// equal, the payload byte for byte; nil Payload and nil Headers match SQL NULL only. Without wanted events the
// transaction must not have appended any.
func Appended(t testing.TB, tx *sql.Tx, want ...outbox.Event) {
	t.Helper()
	Table("").Appended(t, tx, want...)
}

// AppendedPgx is Appended for a pgx transaction.
func AppendedPgx(t testing.TB, tx pgx.Tx, want ...outbox.Event) {
	t.Helper()
	Table("").AppendedPgx(t, tx, want...)
}

// Appended is the function Appended for another table.
func (table Table) Appended(t testing.TB, tx *sql.Tx, want ...outbox.Event) {
	t.Helper()
	query := table.query(t)
	rows, err := tx.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("read the appended events: %v", err)
	}
	defer func() { _ = rows.Close() }() // compare reads to the end and reports errors
	compare(t, rows, want)
}

// AppendedPgx is the function AppendedPgx for another table.
func (table Table) AppendedPgx(t testing.TB, tx pgx.Tx, want ...outbox.Event) {
	t.Helper()
	query := table.query(t)
	rows, err := tx.Query(t.Context(), query)
	if err != nil {
		t.Fatalf("read the appended events: %v", err)
	}
	defer rows.Close()
	compare(t, rows, want)
}

// query selects the rows of the running transaction and of its savepoints, which have transaction ids of their own. A
// row that is visible though its transaction is in progress is ours. xmin is the lower half of an id that is not
// below our own; the upper half is found by the distance.
func (table Table) query(t testing.TB) string {
	t.Helper()
	name, err := ident.Table(cmp.Or(string(table), outbox.DefaultTable))
	if err != nil {
		t.Fatal(err)
	}
	return `
		with mine as (select pg_current_xact_id_if_assigned()::text::bigint as first)
		select e.id::text, coalesce(e.aggregate_type, ''), e.aggregate_id, e.event_type, e.payload::text, e.headers::text, coalesce(e.traceparent, ''),
			e.cmin::text::bigint, e.tableoid::bigint
		from ` + name + ` as e, mine,
			lateral (select ((e.xmin::text::bigint - mine.first) % 4294967296 + 4294967296) % 4294967296) as d(distance)
		where case when d.distance < 2147483648 then pg_xact_status((mine.first + d.distance)::text::xid8) = 'in progress' else false end
		order by e.cmin::text::bigint, e.tableoid, e.ctid`
}

// results is what *sql.Rows and pgx.Rows have in common.
type results interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
}

func compare(t testing.TB, rows results, want []outbox.Event) {
	t.Helper()
	var got []appended
	for rows.Next() {
		var a appended
		if err := a.scan(rows); err != nil {
			t.Fatalf("read the appended events: %v", err)
		}
		got = append(got, a)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("read the appended events: %v", err)
	}
	wanted := make([]fields, len(want))
	for i, ev := range want {
		wanted[i] = fieldsOf(ev)
	}
	if !matches(wanted, got) {
		t.Errorf("events appended in this transaction (-want +got):\n%s", diff(wanted, got))
	}
}
