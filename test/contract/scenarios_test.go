package contract_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// row is a row of the outbox as its columns' text; nil is NULL.
type row struct {
	id                                                                   string
	aggregateType, aggregateID, eventType, payload, headers, traceParent *string
}

// values are the row's in the order of columns, as PostgreSQL prints them.
func (r row) values() [][]byte {
	values := [][]byte{[]byte(r.id)}
	for _, v := range []*string{r.aggregateType, r.aggregateID, r.eventType, r.payload, r.headers, r.traceParent} {
		if v == nil {
			values = append(values, nil)
			continue
		}
		values = append(values, []byte(*v))
	}
	return values
}

// outbox writes rows of one event type for a scenario.
type outbox struct {
	t         *testing.T
	pool      *pgxpool.Pool
	eventType string
}

// inserter is a pool, a connection or a transaction.
type inserter interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// insert writes a row and returns it as it stands in the table: jsonb and uuid in PostgreSQL's form.
func (o outbox) insert(on inserter, change func(*row)) row {
	o.t.Helper()
	r := o.row(change)
	if err := o.into(on, "outbox_events", r).Scan(&r.id, &r.headers); err != nil {
		o.t.Fatalf("insert %s: %v", r.id, err)
	}
	return r
}

func (o outbox) row(change func(*row)) row {
	r := row{
		id: uuid.Must(uuid.NewV7()).String(), aggregateType: new("user"), aggregateID: new("42"), eventType: new(o.eventType), payload: new(`{"a":1}`),
	}
	if change != nil {
		change(&r)
	}
	return r
}

func (o outbox) into(on inserter, table string, r row) pgx.Row {
	return on.QueryRow(o.t.Context(), `insert into `+pgx.Identifier{table}.Sanitize()+` (id, aggregate_type, aggregate_id, event_type, payload, headers, traceparent)
		values ($1::text::uuid, $2, $3, $4, $5::text::json, $6::text::jsonb, $7) returning id::text, headers::text`,
		r.id, r.aggregateType, r.aggregateID, r.eventType, r.payload, r.headers, r.traceParent)
}

func (o outbox) exec(sql string, args ...any) {
	o.t.Helper()
	if _, err := o.pool.Exec(o.t.Context(), sql, args...); err != nil {
		o.t.Fatalf("%s: %v", sql, err)
	}
}

// in runs f in a transaction, which is committed unless f returns errRollback.
func (o outbox) in(f func(tx pgx.Tx) error) {
	o.t.Helper()
	if err := pgx.BeginFunc(o.t.Context(), o.pool, f); err != nil && !errors.Is(err, errRollback) {
		o.t.Fatal(err)
	}
}

var errRollback = errors.New("roll back")

// scenario writes to the outbox in one way and returns the rows that must be published, in the order of their commits.
type scenario struct {
	name  string
	write func(o outbox) []row
}

// payloads are JSON texts that survive only where nobody parses them.
var payloads = []string{
	`{"b":1,"a":2}`, `{"a":1,"a":2,"a":1}`, `{"":{"":[]}}`, `{}`, `[]`, `null`, `true`, `0`, `-0`, `1.0`, `1e400`, `1E+2`,
	`123456789012345678901234567890.00000000000000000001`, `""`, `" "`, `"\u0041\/\b\f\n\r\t\"\\"`, `"\u0000"`, `"\ud83d\ude00"`, `"\ud83d"`,
	`"é€😀"`, "\"\u2028\u2029\ufeff\u200e\"", `"</script>&<>"`, `"$1 ${event_type} %s \\N"`, " \t\r\n{ \"a\" : [ 1 ,\n2 ] } \n",
	strings.Repeat(`[`, 500) + strings.Repeat(`]`, 500), `[1,"a",null,{"b":[1.5,2]},[]]`, `{"payload":{"payload":"x"},"schema":null}`,
}

var scenarios = []scenario{
	{"JSON is passed on as it was written", func(o outbox) []row {
		var rows []row
		for _, payload := range payloads {
			rows = append(rows, o.insert(o.pool, func(r *row) { r.payload = &payload }))
		}
		return rows
	}},
	{"a NULL payload is a tombstone", func(o outbox) []row {
		return []row{o.insert(o.pool, func(r *row) { r.payload = nil })}
	}},
	{"a NULL column is a header with a null value", func(o outbox) []row {
		return []row{
			o.insert(o.pool, func(r *row) { r.aggregateType = nil }),
			o.insert(o.pool, func(r *row) { r.headers = new(`{"tenant":"acme"}`) }),
			o.insert(o.pool, func(r *row) { r.traceParent = new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") }),
		}
	}},
	{"headers have PostgreSQL's form of jsonb", func(o outbox) []row {
		var rows []row
		for _, headers := range []string{`{"b":"2","a":"1","b":"3"}`, `{}`, `{"ü":"é€😀","n":"\n\u0001"}`, `[1,2.50,null]`, `"text"`, `null`} {
			rows = append(rows, o.insert(o.pool, func(r *row) { r.headers = &headers }))
		}
		return rows
	}},
	{"keys and names of any script", func(o outbox) []row {
		var rows []row
		for _, text := range []string{"ключ", "鍵", "😀", " a ", "a\nb\tc", `"quoted"`, `{"json":1}`, `\N`, "${event_type}", strings.Repeat("k", 1024)} {
			rows = append(rows, o.insert(o.pool, func(r *row) { r.aggregateID, r.aggregateType = &text, new(text[:min(len(text), 100)]) }))
		}
		return rows
	}},
	{"rows deleted at once or later are published, their deletion is not", func(o outbox) []row {
		var rows []row
		o.in(func(tx pgx.Tx) error {
			rows = append(rows, o.insert(tx, nil))
			_, err := tx.Exec(o.t.Context(), `delete from outbox_events where id = $1::text::uuid`, rows[0].id)
			return err
		})
		rows = append(rows, o.insert(o.pool, nil))
		o.exec(`delete from outbox_events where id = $1::text::uuid`, rows[1].id)
		return rows
	}},
	{"what an update changes is not published", func(o outbox) []row {
		var r row
		o.in(func(tx pgx.Tx) error {
			r = o.insert(tx, nil)
			_, err := tx.Exec(o.t.Context(), `update outbox_events set payload = '{"changed":true}' where id = $1::text::uuid`, r.id)
			return err
		})
		o.exec(`update outbox_events set aggregate_id = 'other' where id = $1::text::uuid`, r.id)
		return []row{r}
	}},
	{"many rows of one transaction", func(o outbox) []row {
		var rows []row
		o.in(func(tx pgx.Tx) error {
			for i := range 3000 { // more than a batch
				rows = append(rows, o.insert(tx, func(r *row) { r.aggregateID, r.payload = new(fmt.Sprint(i%7)), new(fmt.Sprint(i)) }))
			}
			return nil
		})
		return rows
	}},
	{"rows of COPY, which share a position", func(o outbox) []row {
		var rows []row
		for i := range 200 {
			rows = append(rows, o.row(func(r *row) { r.payload = new(fmt.Sprint(i)) }))
		}
		_, err := o.pool.CopyFrom(o.t.Context(), pgx.Identifier{"outbox_events"}, []string{"id", "aggregate_type", "aggregate_id", "event_type", "payload"},
			pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) {
				return []any{uuid.MustParse(rows[i].id), rows[i].aggregateType, rows[i].aggregateID, rows[i].eventType, []byte(*rows[i].payload)}, nil
			}))
		if err != nil {
			o.t.Fatal(err)
		}
		return rows
	}},
	{"the order is that of commits, not of writes", func(o outbox) []row {
		var early, late row
		o.in(func(first pgx.Tx) error {
			early = o.insert(first, nil)
			o.in(func(second pgx.Tx) error {
				late = o.insert(second, nil)
				return nil
			})
			return nil
		})
		return []row{late, early}
	}},
	{"rolled back rows are not published", func(o outbox) []row {
		o.in(func(tx pgx.Tx) error {
			o.insert(tx, nil)
			return errRollback
		})
		return []row{o.insert(o.pool, nil)}
	}},
	{"savepoints", func(o outbox) []row {
		var rows []row
		o.in(func(tx pgx.Tx) error {
			rows = append(rows, o.insert(tx, nil))
			err := pgx.BeginFunc(o.t.Context(), tx, func(nested pgx.Tx) error {
				o.insert(nested, nil)
				return errRollback
			})
			if !errors.Is(err, errRollback) {
				return err
			}
			return pgx.BeginFunc(o.t.Context(), tx, func(nested pgx.Tx) error {
				rows = append(rows, o.insert(nested, nil))
				return nil
			})
		})
		return rows
	}},
	{"two-phase commit", func(o outbox) []row {
		conn, err := o.pool.Acquire(o.t.Context())
		if err != nil {
			o.t.Fatal(err)
		}
		defer conn.Release()
		prepared := func(name string) row {
			o.must(conn.Exec(o.t.Context(), "begin"))
			r := o.insert(conn, nil)
			o.must(conn.Exec(o.t.Context(), "prepare transaction '"+name+"'"))
			return r
		}
		kept := prepared(o.eventType + " kept")
		prepared(o.eventType + " dropped")
		between := o.insert(o.pool, nil)
		o.exec("rollback prepared '" + o.eventType + " dropped'")
		o.exec("commit prepared '" + o.eventType + " kept'")
		return []row{between, kept}
	}},
	{"partitions are one table", func(o outbox) []row {
		direct := o.row(func(r *row) { r.id = uuid.NewString() })
		rows := []row{
			o.insert(o.pool, nil), // the partition of the day
			o.insert(o.pool, func(r *row) { r.id = uuid.NewString() }),                  // the default partition
			o.insert(o.pool, func(r *row) { r.id = strings.ToUpper(uuid.NewString()) }), // PostgreSQL prints lower case
		}
		if err := o.into(o.pool, "outbox_events_default", direct).Scan(&direct.id, &direct.headers); err != nil {
			o.t.Fatal(err)
		}
		return append(rows, direct)
	}},
	{"an id taken already is no event", func(o outbox) []row {
		r := o.insert(o.pool, nil)
		o.exec(`insert into outbox_events (id, aggregate_id, event_type) values ($1::text::uuid, '42', $2) on conflict do nothing`, r.id, o.eventType)
		return []row{r}
	}},
	{"the largest payload", func(o outbox) []row {
		payload := `"` + strings.Repeat("é", 460_799) + `"`
		return []row{o.insert(o.pool, func(r *row) { r.payload = &payload })}
	}},
	{"a column that comes while the stream runs", func(o outbox) []row {
		rows := []row{o.insert(o.pool, nil)}
		o.exec(`alter table outbox_events add column extra text default 'x'`)
		return append(rows, o.insert(o.pool, nil))
	}},
}

// must takes what Exec returns.
func (o outbox) must(_ any, err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}
