package pgwal_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

const patience = 20 * time.Second // the deadline of every wait

// database is an outbox of a test's own, with its slot.
type database struct {
	*pgxpool.Pool
	url  string
	slot string
}

func migrated(t testing.TB) database {
	t.Helper()
	url := pgtest.Migrated(t)
	return database{Pool: pgtest.Pool(t, url), url: url, slot: pgtest.SlotName(t)}
}

func (d database) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := d.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// set sets a default of the database, for connections to come.
func (d database) set(t testing.TB, setting string) {
	t.Helper()
	d.exec(t, fmt.Sprintf("alter database %s set %s", pgx.Identifier{d.Config().ConnConfig.Database}.Sanitize(), setting))
}

// scan reads one row.
func (d database) scan(t testing.TB, sql string, args []any, dst ...any) {
	t.Helper()
	if err := d.QueryRow(t.Context(), sql, args...).Scan(dst...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// confirmed is where the slot stands.
func (d database) confirmed(t testing.TB) (lsn relay.LSN) {
	t.Helper()
	d.scan(t, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", []any{d.slot}, &lsn)
	return lsn
}

// terminate ends the stream of the relay on the slot, as soon as there is one, with the code of an administrator.
func (d database) terminate(t testing.TB) {
	for ended := false; !ended && t.Context().Err() == nil; {
		err := d.QueryRow(t.Context(), `select coalesce(bool_or(pg_terminate_backend(pid)), false) from pg_stat_replication
			where pid = (select active_pid from pg_replication_slots where slot_name = $1) and state = 'streaming'`, d.slot).Scan(&ended)
		if err != nil {
			return // the test is over
		}
	}
}

// awaitReports waits until the server has heard n times from the relay on the slot.
func (d database) awaitReports(t testing.TB, n int) {
	t.Helper()
	var last, heard time.Time
	eventually(t, fmt.Sprint(n, " status updates of the relay"), func() bool {
		d.scan(t, `select coalesce(max(reply_time), 'epoch') from pg_stat_replication
			where pid = (select active_pid from pg_replication_slots where slot_name = $1)`, []any{d.slot}, &heard)
		if heard.After(last) {
			n, last = n-1, heard
		}
		return n < 0
	})
}

// eventually waits for a condition of the world outside the process.
func eventually(t testing.TB, what string, met func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !met() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// insert is an insert of one event with the given key; the event type says the topic.
func insert(key string) string {
	return fmt.Sprintf(`insert into outbox_events (id, aggregate_type, aggregate_id, event_type, payload) values (gen_random_uuid(), 'thing', '%s', 'things', '{}');`, key)
}

func (d database) source(t testing.TB, change func(*pgwal.Config)) *pgwal.Source {
	t.Helper()
	cfg := pgwal.Config{URL: d.url, Slot: d.slot}
	if change != nil {
		change(&cfg)
	}
	src, err := pgwal.New(cfg)
	if err != nil {
		t.Fatalf("New = %v, want no error", err)
	}
	return src
}

// open opens a stream that is closed when the test ends, if not before.
func open(t testing.TB, src *pgwal.Source) relay.Stream {
	t.Helper()
	s, err := src.Open(t.Context())
	if err != nil {
		t.Fatalf("Open = %v, want no error", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// next is the next batch that has events, and an error when none comes in time.
func next(t testing.TB, s relay.Stream) (relay.Batch, error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("no event within %v", patience))
	defer cancel()
	for {
		b, err := s.Next(ctx)
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx))
		}
		if err != nil || len(b.Events) > 0 {
			return b, err
		}
	}
}

// read collects n events.
func read(t testing.TB, s relay.Stream, n int) []relay.Event {
	t.Helper()
	var events []relay.Event
	for len(events) < n {
		b, err := next(t, s)
		if err != nil {
			t.Fatalf("Next = %v after %d of %d events", err, len(events), n)
		}
		events = append(events, b.Events...)
	}
	return events
}

func keys(events []relay.Event) []string {
	out := []string{}
	for _, e := range events {
		out = append(out, string(e.Record.Key))
	}
	return out
}
