package pgwal_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

func TestCommittedRowsComeInCommitOrder(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	s := open(t, d.source(t, nil))
	slow, err := d.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Exec(t.Context(), insert("inserted first, committed last")+insert("and its second row")); err != nil {
		t.Fatal(err)
	}
	d.exec(t, insert("inserted later, committed first"))
	if err := slow.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := read(t, s, 3)
	if diff := cmp.Diff([]string{"inserted later, committed first", "inserted first, committed last", "and its second row"}, keys(got)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	if !(got[0].Position.Compare(got[1].Position) < 0 && got[1].Position.Commit == got[2].Position.Commit && got[1].Position.Index == 0 && got[2].Position.Index == 1) {
		t.Errorf("positions = %v %v %v, want commit LSNs in order and indexes 0 and 1", got[0].Position, got[1].Position, got[2].Position)
	}
	if age := time.Since(got[0].CommittedAt); age < -time.Minute || age > time.Minute {
		t.Errorf("CommittedAt is %v ago, want now", age)
	}
}

func TestTheSlotMovesOnlyWhenItIsTold(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	src := d.source(t, func(c *pgwal.Config) { c.SenderTimeout = time.Second })
	s := open(t, src)
	before := s.Origin().Confirmed
	if got := d.confirmed(t); got != before {
		t.Errorf("Origin().Confirmed = %s, want %s", before, got)
	}
	d.exec(t, insert("a"))
	b, err := next(t, s)
	if err != nil {
		t.Fatal(err)
	}
	d.awaitReports(t, 5)
	if got := d.confirmed(t); got != before {
		t.Errorf("slot stands at %s before Confirm, want %s", got, before)
	}
	s.Confirm(b.End)
	eventually(t, "the slot at the confirmed position", func() bool { return d.confirmed(t) == b.End })
	s.Confirm(b.End - 1) // never back
	d.exec(t, insert("b"))
	if b, err = next(t, s); err != nil {
		t.Fatal(err)
	}
	s.Confirm(b.End)
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v, want no error", err)
	}
	eventually(t, "the position confirmed just before Close", func() bool { return d.confirmed(t) == b.End })
	if err := s.Close(); err != nil {
		t.Errorf("second Close = %v, want no error", err)
	}
	d.exec(t, insert("c"))
	if diff := cmp.Diff([]string{"c"}, keys(read(t, open(t, src), 1))); diff != "" {
		t.Errorf("keys after a new start (-want +got):\n%s", diff)
	}
}

func TestCloseSendsTheLastPosition(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	src := d.source(t, nil)
	for range 8 { // Close races with the goroutine that sends positions
		var s relay.Stream
		eventually(t, "the slot to be free", func() bool {
			var err error
			s, err = src.Open(t.Context())
			return err == nil
		})
		d.exec(t, insert("a"))
		b, err := next(t, s)
		if err != nil {
			t.Fatal(err)
		}
		s.Confirm(b.End)
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v, want no error", err)
		}
		eventually(t, "the position confirmed just before Close", func() bool { return d.confirmed(t) == b.End })
	}
}

func TestCloseSendsTheLastPositionBehindABacklog(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	src := d.source(t, func(c *pgwal.Config) { c.QueueBytes = 100_000 })
	s := open(t, src)
	d.exec(t, insert("first"))
	d.exec(t, "insert into outbox_events (id, aggregate_id, event_type, payload) select gen_random_uuid(), n::text, 'things', to_json(repeat('x', 1000)) from generate_series(1, 20000) n")
	b, err := next(t, s)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a full queue", func() bool { return src.BufferedBytes() > 50_000 })
	s.Confirm(b.End)
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v, want no error", err)
	}
	eventually(t, "the position confirmed just before Close", func() bool { return d.confirmed(t) == b.End })
	if got := src.BufferedBytes(); got != 0 {
		t.Errorf("BufferedBytes() = %d after Close, want 0", got)
	}
}

func TestAPositionThatWasNeverReceivedIsNotConfirmed(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	s := open(t, d.source(t, nil))
	before := d.confirmed(t)
	s.Confirm(before + 1<<30)
	if _, err := next(t, s); err == nil {
		t.Error("Next after Confirm of a future position = nil, want an error")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := d.confirmed(t); got != before {
		t.Errorf("slot stands at %s, want %s", got, before)
	}
}

func TestAnIdleOutboxBesideABusyDatabaseLetsLogGo(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	busy := pgtest.Pool(t, pgtest.URL(t)) // another database of the same server
	if _, err := busy.Exec(t.Context(), "create table noise (t text)"); err != nil {
		t.Fatal(err)
	}
	s := open(t, d.source(t, func(c *pgwal.Config) { c.SenderTimeout = time.Second }))
	before := d.confirmed(t)
	for range 5 {
		if _, err := busy.Exec(t.Context(), "insert into noise select repeat('x', 100) from generate_series(1, 10000)"); err != nil {
			t.Fatal(err)
		}
	}
	for end := relay.LSN(0); end < before+5_000_000; {
		b, err := s.Next(t.Context())
		if err != nil || len(b.Events) != 0 || b.End == 0 {
			t.Fatalf("Next = %+v, %v, want a position alone", b, err)
		}
		s.Confirm(b.End)
		end = b.End
	}
	eventually(t, "the slot 5 MB further on", func() bool { return d.confirmed(t) > before+5_000_000 })
	d.exec(t, insert("still delivered"))
	if diff := cmp.Diff([]string{"still delivered"}, keys(read(t, s, 1))); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestRule7AHugeTransactionTakesLittleMemory(t *testing.T) {
	t.Parallel()
	const limit, batchLimit = 1 << 20, 200_000
	rows := 100_000
	if testing.Short() {
		rows = 20_000 // enough to fill the queue many times over
	}
	d := migrated(t)
	src := d.source(t, func(c *pgwal.Config) { c.QueueBytes, c.BatchBytes = limit, batchLimit })
	s := open(t, src)
	d.exec(t, "insert into outbox_events (id, aggregate_id, event_type, payload) select gen_random_uuid(), n::text, 'things', to_json(repeat('x', 400)) from generate_series(1, $1) n", rows)
	var n, batches int
	var most int64
	var commit relay.LSN
	for n < rows {
		b, err := next(t, s)
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, src.BufferedBytes())
		for _, ev := range b.Events {
			commit = ev.Position.Commit
			if string(ev.Record.Key) != fmt.Sprint(n+1) || ev.Position.Index != uint32(n) {
				t.Fatalf("event %d = key %s at %s, want the rows in order", n, ev.Record.Key, ev.Position)
			}
			n++
		}
		if (b.End != 0) != (n == rows) {
			t.Fatalf("batch ends at %s after %d rows, want an end with the last row only", b.End, n)
		}
		if b.End != 0 && b.End <= commit {
			t.Errorf("batch ends at %s, want more than the commit at %s", b.End, commit)
		}
		batches++
	}
	if most > limit {
		t.Errorf("queue held %d bytes, want at most %d", most, limit)
	}
	t.Logf("%d rows in %d batches, at most %d bytes in the queue", n, batches, most)
}

func TestASinkThatStandsStillDoesNotCostTheConnection(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	src := d.source(t, func(c *pgwal.Config) { c.QueueBytes, c.SenderTimeout = 50_000, 3*time.Second })
	s := open(t, src)
	// Far more than all socket buffers hold, so that the server is blocked in sending.
	const rows = 20_000
	d.exec(t, "insert into outbox_events (id, aggregate_id, event_type, payload) select gen_random_uuid(), n::text, 'things', to_json(repeat('x', 2000)) from generate_series(1, $1) n", rows)
	eventually(t, "a full queue", func() bool { return src.BufferedBytes() > 20_000 })
	d.awaitReports(t, 6) // at intervals of a third of the server's patience, twice as long as that
	if got := len(read(t, s, rows)); got != rows {
		t.Errorf("read %d rows, want %d over the same connection", got, rows)
	}
}

func TestALostConnectionIsAPassingErrorAndLosesNothing(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	src := d.source(t, nil)
	s := open(t, src)
	d.exec(t, insert("unconfirmed"))
	read(t, s, 1)
	d.exec(t, "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1", d.slot)
	_, err := next(t, s)
	var halt *relay.HaltError
	if err == nil || errors.As(err, &halt) {
		t.Fatalf("Next = %v, want a passing error", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v, want no error", err)
	}
	var again relay.Stream
	eventually(t, "the slot to be free", func() bool {
		again, err = src.Open(t.Context())
		return !errors.Is(err, relay.ErrStandby)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }() // a test of reading
	if diff := cmp.Diff([]string{"unconfirmed"}, keys(read(t, again, 1))); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestASecondRelayStandsByAndTakesOver(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	first, second := open(t, d.source(t, nil)), d.source(t, nil)
	if _, err := second.Open(t.Context()); !errors.Is(err, relay.ErrStandby) {
		t.Fatalf("Open of a slot in use = %v, want ErrStandby", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var s relay.Stream
	eventually(t, "the slot to be free", func() (free bool) {
		var err error
		s, err = second.Open(t.Context())
		return err == nil
	})
	defer func() { _ = s.Close() }() // a test of opening
	d.exec(t, insert("a"))
	read(t, s, 1)
}

func TestRule10AFrozenRelayLosesTheSlotAfterTheTimeout(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	src := d.source(t, func(c *pgwal.Config) { c.SenderTimeout = 500 * time.Millisecond })
	s := open(t, src)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// A holder that never says a word, on a connection with the relay's settings.
	cfg, err := pgconn.ParseConfig(d.url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.RuntimeParams["replication"], cfg.RuntimeParams["wal_sender_timeout"] = "database", "500"
	frozen, err := pgconn.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = frozen.Close(t.Context()) }() // the server has closed it
	eventually(t, "the slot to be free", func() bool {
		frozen.Frontend().SendQuery(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL 0/0 (proto_version '1', publication_names 'walpost_outbox')", d.slot)})
		if err := frozen.Frontend().Flush(); err != nil {
			t.Fatal(err)
		}
		for {
			msg, err := frozen.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			switch msg.(type) {
			case *pgproto3.CopyBothResponse:
				return true
			case *pgproto3.ReadyForQuery:
				return false
			}
		}
	})
	began := time.Now()
	eventually(t, "the takeover", func() bool {
		s, err = src.Open(t.Context())
		return err == nil
	})
	defer func() { _ = s.Close() }() // a test of opening

	if took := time.Since(began); took > 10*time.Second { // nothing else than the timeout frees the slot; the rest is for a busy machine
		t.Errorf("taken over after %v with a timeout of 500 ms", took)
	}
}

// As with the frozen holder above, but with a connection that the relay itself has made, and settings that it alone has given it.
func TestTheRelaysOwnConnectionIsCutWhenItFreezes(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	wire := newWire(t, fmt.Sprintf("%s:%d", d.Config().ConnConfig.Host, d.Config().ConnConfig.Port))
	frozen := open(t, d.source(t, func(c *pgwal.Config) { c.URL, c.SenderTimeout = through(d, wire.Addr()), 500*time.Millisecond }))
	if _, err := d.source(t, nil).Open(t.Context()); !errors.Is(err, relay.ErrStandby) {
		t.Fatalf("Open of a slot in use = %v, want ErrStandby", err)
	}
	wire.goSilent()
	second := d.source(t, nil)
	eventually(t, "the takeover", func() bool {
		s, err := second.Open(t.Context())
		if err == nil {
			t.Cleanup(func() { _ = s.Close() }) // a test of opening
		}
		return err == nil
	})
	_ = frozen.Close() // nobody listens
}
