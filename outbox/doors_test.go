package outbox_test

import (
	"bytes"
	"context"
	"database/sql"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// door is one of the two ways into the outbox. The suite runs through each of them.
type door struct {
	name  string
	begin func(t *testing.T, url string) transaction
}

// transaction is what both kinds have in common, plus the connection underneath.
type transaction interface {
	append(ctx context.Context, a outbox.Appender, events ...outbox.Event) error
	exec(t *testing.T, statement string, args ...any)
	commit(t *testing.T)
	rollback(t *testing.T)
	conn(t *testing.T) *pgx.Conn
}

var doors = []door{{"database/sql", beginSQL}, {"pgx", beginPgx}}

type sqlTransaction struct {
	session *sql.Conn
	tx      *sql.Tx
}

func beginSQL(t *testing.T, url string) transaction {
	t.Helper()
	session, err := pgtest.DB(t, url).Conn(t.Context())
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = session.Close() }) // back to a pool that is closed next
	tx, err := session.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	return sqlTransaction{session, tx}
}

func (s sqlTransaction) append(ctx context.Context, a outbox.Appender, events ...outbox.Event) error {
	return a.Append(ctx, s.tx, events...)
}

func (s sqlTransaction) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := s.tx.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func (s sqlTransaction) commit(t *testing.T)   { t.Helper(); must(t, s.tx.Commit()) }
func (s sqlTransaction) rollback(t *testing.T) { t.Helper(); must(t, s.tx.Rollback()) }

func (s sqlTransaction) conn(t *testing.T) (conn *pgx.Conn) {
	t.Helper()
	must(t, s.session.Raw(func(driverConn any) error {
		conn = driverConn.(*stdlib.Conn).Conn()
		return nil
	}))
	return conn
}

type pgxTransaction struct{ tx pgx.Tx }

func beginPgx(t *testing.T, url string) transaction {
	t.Helper()
	tx, err := pgtest.Pool(t, url).Begin(t.Context())
	if err != nil {
		t.Fatalf("begin: %v", err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // the pool waits for it
	return pgxTransaction{tx}
}

func (p pgxTransaction) append(ctx context.Context, a outbox.Appender, events ...outbox.Event) error {
	return outboxpgx.Appender(a).Append(ctx, p.tx, events...)
}

func (p pgxTransaction) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := p.tx.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func (p pgxTransaction) commit(t *testing.T)       { t.Helper(); must(t, p.tx.Commit(t.Context())) }
func (p pgxTransaction) rollback(t *testing.T)     { t.Helper(); must(t, p.tx.Rollback(t.Context())) }
func (p pgxTransaction) conn(*testing.T) *pgx.Conn { return p.tx.Conn() }

// roundTrips counts how often the server said that it is ready for the next request while f ran.
func roundTrips(t *testing.T, tx transaction, f func()) int {
	t.Helper()
	frontend := tx.conn(t).PgConn().Frontend()
	var trace bytes.Buffer
	frontend.Trace(&trace, pgproto3.TracerOptions{SuppressTimestamps: true})
	defer frontend.Untrace()
	f()
	return strings.Count(trace.String(), "\tReadyForQuery\t")
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// row is what stands in the table, in the order of insertion within a partition.
type row struct {
	ID            outbox.EventID
	AggregateType string
	AggregateID   string
	Type          string
	Payload       *string
	Headers       *string
	TraceParent   *string
}

func stored(t *testing.T, url, table string) []row {
	t.Helper()
	rows, err := pgtest.Pool(t, url).Query(t.Context(), `
		select id, aggregate_type, aggregate_id, event_type, payload::text, headers::text, traceparent from `+table+` order by tableoid, ctid`)
	must(t, err)
	got, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	must(t, err)
	return got
}

// writerURL connects as a new role that has one privilege on the outbox and none elsewhere. The role goes when the test ends.
func writerURL(t *testing.T, owner, privilege string) string {
	t.Helper()
	pool := pgtest.Pool(t, owner)
	role := "role_" + strings.ReplaceAll(outbox.NewID().String(), "-", "")
	for _, statement := range []string{"create role " + role + " login", "grant " + privilege + " on outbox_events to " + role} {
		_, err := pool.Exec(t.Context(), statement)
		must(t, err)
	}
	t.Cleanup(func() {
		for _, statement := range []string{"drop owned by " + role, "drop role " + role} {
			if _, err := pool.Exec(context.Background(), statement); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
		}
	})
	address, err := url.Parse(owner)
	must(t, err)
	address.User = url.User(role)
	return address.String()
}
