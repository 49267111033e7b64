package pgwal_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// wantHalt checks cause, hint and words of a halt.
func wantHalt(t testing.TB, what string, err error, cause relay.Cause, says string) {
	t.Helper()
	var halt *relay.HaltError
	if !errors.As(err, &halt) {
		t.Fatalf("%s = %v, want a halt", what, err)
	}
	if halt.Cause != cause || halt.Hint == "" || !strings.Contains(err.Error(), says) {
		t.Errorf("%s = %v, want a halt of cause %v with a hint that says %q", what, err, cause, says)
	}
}

func TestWhatIsWrongAtTheStartHalts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql    string
		change func(*pgwal.Config)
		cause  relay.Cause
		says   string
	}{
		"a missing slot that must exist": {
			change: func(c *pgwal.Config) { c.RequireSlot = true }, cause: relay.SlotMissing, says: "walpost slot create",
		},
		"a slot of another plugin": {
			sql: "select pg_create_logical_replication_slot('$slot', 'test_decoding')", cause: relay.SlotMissing, says: "test_decoding",
		},
		"a missing table": {sql: "drop table outbox_events", cause: relay.TableUnpublished, says: "walpost migrate up"},
		"a name that is no table": {
			change: func(c *pgwal.Config) { c.Table = "a b" }, cause: relay.TableUnpublished, says: "a b",
		},
		"a missing publication": {sql: "drop publication walpost_outbox", cause: relay.PublicationMissing, says: `create publication "walpost_outbox" for table outbox_events`},
		"a publication without inserts": {
			sql: "alter publication walpost_outbox set (publish = 'update')", cause: relay.PublicationMissing, says: "set (publish = 'insert')",
		},
		"a publication without the table": {
			sql: "alter publication walpost_outbox drop table outbox_events", cause: relay.TableUnpublished, says: `add table "public"."outbox_events"`,
		},
		"a table that no publication can hold": {
			sql:    "drop publication walpost_outbox; create publication walpost_outbox for all tables with (publish = 'insert'); create unlogged table plain (like outbox_events)",
			change: func(c *pgwal.Config) { c.Table = "plain" }, cause: relay.TableUnpublished, says: "name a logged table",
		},
		"a publication with a row filter": {
			sql: "alter publication walpost_outbox set table outbox_events where (aggregate_type = 'thing')", cause: relay.TableUnpublished, says: "row filter",
		},
		"a publication of some columns": {
			sql: "alter publication walpost_outbox set table outbox_events (id, event_type, payload)", cause: relay.TableUnpublished, says: `keeps back column "aggregate_id"`,
		},
		"a publication of the partitions": {
			sql: "alter publication walpost_outbox set (publish_via_partition_root = false)", cause: relay.TableUnpublished, says: "publish_via_partition_root",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			if tc.sql != "" {
				d.exec(t, strings.ReplaceAll(tc.sql, "$slot", d.slot))
			}
			_, err := d.source(t, tc.change).Open(t.Context())
			wantHalt(t, "Open", err, tc.cause, tc.says)
		})
	}
}

func TestASlotOfAnotherDatabaseHalts(t *testing.T) {
	t.Parallel()
	d, other := migrated(t), migrated(t)
	if err := open(t, other.source(t, nil)).Close(); err != nil {
		t.Fatal(err)
	}
	_, err := d.source(t, func(c *pgwal.Config) { c.Slot = other.slot }).Open(t.Context())
	wantHalt(t, "Open", err, relay.SlotMissing, "belongs to database")
}

func TestASlotThatVanishesUnderARunningRelayIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	src := d.source(t, nil)
	if err := open(t, src).Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slot to be free", func() bool {
		return pgwal.DropSlot(t.Context(), pgwal.Config{URL: d.url, Slot: d.slot}) == nil
	})
	_, err := src.Open(t.Context())
	wantHalt(t, "Open", err, relay.SlotMissing, "walpost slot create")
}

func TestAPublicationThatChangesWhileItIsReadHalts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql   string
		cause relay.Cause
		says  string
	}{
		"dropped":           {"drop publication walpost_outbox", relay.PublicationMissing, "does not exist"},
		"without the table": {"alter publication walpost_outbox drop table outbox_events", relay.TableUnpublished, "does not publish"},
		"with a table of the same name": {
			"create table copy (like outbox_events); drop table outbox_events; alter table copy rename to outbox_events; alter publication walpost_outbox add table outbox_events",
			relay.TableUnpublished, "created again",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			s := open(t, d.source(t, func(c *pgwal.Config) { c.CheckInterval = 20 * time.Millisecond }))
			d.exec(t, insert("before"))
			read(t, s, 1)
			d.exec(t, tc.sql)
			_, err := next(t, s)
			wantHalt(t, "Next", err, tc.cause, tc.says)
		})
	}
}

func TestAFilterIsTakenOffAsTheHaltSays(t *testing.T) {
	t.Parallel()
	for name, list := range map[string]string{"a row filter": "where (aggregate_type = 'other')", "a list of columns": "(id, payload)"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			src := d.source(t, func(c *pgwal.Config) { c.CheckInterval = 20 * time.Millisecond })
			s := open(t, src)
			d.exec(t, "create table other (); alter publication walpost_outbox add table other")
			d.exec(t, "begin; alter publication walpost_outbox drop table outbox_events; alter publication walpost_outbox add table outbox_events "+list+"; commit")
			_, err := next(t, s)
			wantHalt(t, "Next", err, relay.TableUnpublished, "keeps back")
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			var halt *relay.HaltError
			errors.As(err, &halt)
			mend, _, _ := strings.Cut(halt.Hint, "; rows")
			d.exec(t, mend)
			var tables int
			d.scan(t, "select count(*) from pg_publication_tables where pubname = 'walpost_outbox'", nil, &tables)
			if tables != 2 {
				t.Errorf("publication has %d tables after %q, want both", tables, mend)
			}
			eventually(t, "the slot to be free", func() bool {
				s, err = src.Open(t.Context())
				return !errors.Is(err, relay.ErrStandby)
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }() // a test of reading
			d.exec(t, insert("a"))
			if diff := cmp.Diff([]string{"a"}, keys(read(t, s, 1))); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

// What the server refuses is not what was committed before it, and the way out of the halt may be the end of the slot.
func TestAHaltByTheServerComesBehindWhatWasCommittedBefore(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", d.slot)
	var want []string
	for n := range 200 {
		want = append(want, fmt.Sprint(n))
		d.exec(t, insert(want[n]))
	}
	d.exec(t, "drop publication walpost_outbox")
	d.exec(t, insert("lost to this slot"))
	d.exec(t, "create publication walpost_outbox for table outbox_events with (publish = 'insert', publish_via_partition_root = true)")
	var last string
	d.scan(t, "select pg_current_wal_lsn()::text", nil, &last)
	s := open(t, d.source(t, nil))
	eventually(t, "the server to end the stream, or PostgreSQL 18 to send all it has", func() (sent bool) {
		d.scan(t, `select not s.active or coalesce(r.sent_lsn >= $2::text::pg_lsn, false)
			from pg_replication_slots s left join pg_stat_replication r on r.pid = s.active_pid where s.slot_name = $1`, []any{d.slot, last}, &sent)
		return sent
	})
	var got []string
	var end relay.LSN
	var err error
	for {
		var b relay.Batch
		if b, err = next(t, s); err != nil {
			break
		}
		got, end = append(got, keys(b.Events)...), b.End
		s.Confirm(end)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys before the halt (-want +got):\n%s", diff)
	}
	wantHalt(t, "Next", err, relay.PublicationMissing, "select pg_replication_slot_advance('"+d.slot+"'")
	var halt *relay.HaltError
	if errors.As(err, &halt) && halt.From < end {
		t.Errorf("halt is about what lies behind %s, want behind %s, the last that was sent", halt.From, end)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v, want no error", err)
	}
	eventually(t, "the slot behind all that was published", func() bool { return d.confirmed(t) >= end })
	if b, err := next(t, open(t, d.source(t, nil))); err == nil {
		t.Errorf("Next after another start = %q, want the halt and nothing again", keys(b.Events))
	}
}

// A slot reads the catalog as it was when a row was written: a publication that comes later does not help. PostgreSQL 18 skips such rows with a
// warning, older versions refuse to go on.
func TestASlotOlderThanItsPublicationHalts(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.exec(t, "drop publication walpost_outbox")
	d.exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", d.slot)
	d.exec(t, insert("lost to this slot"))
	d.exec(t, "create publication walpost_outbox for table outbox_events with (publish = 'insert', publish_via_partition_root = true)")
	s := open(t, d.source(t, nil))
	_, err := next(t, s)
	wantHalt(t, "Next", err, relay.PublicationMissing, "select pg_replication_slot_advance('"+d.slot+"'")
}

func TestALostSlotHaltsAndNamesTheGap(t *testing.T) {
	t.Parallel()
	srv := pgtest.StartServer(t) // its settings are changed
	url := srv.Migrated(t)
	d := database{Pool: pgtest.Pool(t, url), url: url, slot: pgtest.SlotName(t)}
	src := d.source(t, nil)
	s := open(t, src)
	d.exec(t, insert("never confirmed"))
	read(t, s, 1)
	d.exec(t, "alter system set max_slot_wal_keep_size = '1MB'")
	d.exec(t, "select pg_reload_conf()")
	d.exec(t, "create table noise (t text)")
	cfg := pgwal.Config{URL: url, Slot: d.slot}
	var status pgwal.SlotStatus
	eventually(t, "the slot to be lost", func() bool {
		d.exec(t, "insert into noise select repeat('x', 1000) from generate_series(1, 20000)")
		d.exec(t, "select pg_switch_wal()")
		d.exec(t, "checkpoint")
		var err error
		if status, err = pgwal.ReadSlot(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		return status.WALStatus == "lost"
	})
	if text := status.Explain(); !strings.Contains(text, "is lost") || !strings.Contains(text, status.Confirmed.String()) {
		t.Errorf("Explain() = %q, want that the slot is lost, and since when", text)
	}
	_, err := next(t, s)
	var halt *relay.HaltError
	if err == nil || errors.As(err, &halt) {
		t.Errorf("Next = %v, want a passing error: the server ends a stream that keeps too much log as if it shut down", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close = %v, want no error", err)
	}
	_, err = src.Open(t.Context())
	wantHalt(t, "Open", err, relay.SlotLost, "walpost slot")
	if errors.As(err, &halt) && (halt.From == 0 || halt.To <= halt.From) {
		t.Errorf("gap = %s to %s, want a stretch of log", halt.From, halt.To)
	}
}

func TestAServerWithoutLogicalLogHalts(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "walpost-replica-") // where the server's account can reach it, unlike t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // best effort in the system's temporary folder
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	binaries, err := postgres.Find(t.Context(), os.Getenv("WALPOST_PG_BIN"), "")
	if err != nil {
		pgtest.URL(t) // skips, and says what to install
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	srv, err := postgres.Start(t.Context(), postgres.Config{
		Binaries: binaries, Dir: filepath.Join(dir, "data"), Port: port, Settings: map[string]string{"wal_level": "replica", "fsync": "off"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Stop(context.Background()) }) // its data goes anyway
	src, err := pgwal.New(pgwal.Config{URL: srv.URL("postgres")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = src.Open(t.Context())
	wantHalt(t, "Open", err, relay.SlotMissing, "wal_level")
}

func TestAServerThatIsAwayIsAPassingError(t *testing.T) {
	t.Parallel()
	src, err := pgwal.New(pgwal.Config{URL: "postgres://walpost:secret@127.0.0.1:1/x?sslmode=disable"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = src.Open(t.Context())
	var halt *relay.HaltError
	if err == nil || errors.As(err, &halt) || !strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "secret") {
		t.Errorf("Open = %v, want a passing error with the address and without the password", err)
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*pgwal.Config){
		"no URL":                              func(c *pgwal.Config) { c.URL = "" },
		"a URL that is none":                  func(c *pgwal.Config) { c.URL = "postgres://u:secret@h:port/x" },
		"a slot name in capitals":             func(c *pgwal.Config) { c.Slot = "Slot" },
		"a slot name with a quote":            func(c *pgwal.Config) { c.Slot = `s"; drop` },
		"a long slot name":                    func(c *pgwal.Config) { c.Slot = strings.Repeat("s", 64) },
		"a long publication name":             func(c *pgwal.Config) { c.Publication = strings.Repeat("p", 64) },
		"a batch larger than half the queue":  func(c *pgwal.Config) { c.QueueBytes, c.BatchBytes = 100, 51 },
		"a batch of nothing":                  func(c *pgwal.Config) { c.BatchEvents = -1 },
		"a timeout that leaves no time":       func(c *pgwal.Config) { c.SenderTimeout = time.Millisecond },
		"a mapping whose topic has no column": func(c *pgwal.Config) { c.Mapping.Topic = "${" },
	} {
		cfg := pgwal.Config{URL: "postgres://localhost/x"}
		change(&cfg)
		_, err := pgwal.New(cfg)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("New with %s = %v, want an error without the password", name, err)
		}
	}
}
