package pgwal

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
)

// admin is a migrated database and a connection to it.
func admin(t *testing.T) (Config, *pgx.Conn) {
	t.Helper()
	cfg := Config{URL: pgtest.Migrated(t), Slot: pgtest.SlotName(t)}.withDefaults()
	conn, err := cfg.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // questions have been answered
	return cfg, conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func TestWatchEndsBehindWhatWasCommittedBeforeAndNamesTheStretch(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		interval time.Duration
		doubt    bool
	}{
		"at intervals":            {time.Millisecond, false},
		"and when there is doubt": {time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, conn := admin(t)
			cfg.CheckInterval = tc.interval
			s := quiet(cfg)
			s.queue.put(part(1, 7))
			s.sound.Store(5)
			s.confirmed.Store(8) // beyond a row that may have been skipped
			s.feed.received.Store(9)
			execute(t, conn, "drop publication walpost_outbox")
			if tc.doubt {
				signal(s.doubt)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s.watch(ctx)
			if b, err := s.Next(ctx); err != nil || b.End != 7 {
				t.Errorf("Next = %v, %v, want what was queued", b.End, err)
			}
			_, err := s.Next(ctx)
			var halt *relay.HaltError
			if !errors.As(err, &halt) || halt.Cause != relay.PublicationMissing || halt.From != 5 || halt.To != 9 {
				t.Errorf("Next = %v, want a halt of cause publication_missing from 0/5, where all was well, to 0/9", err)
			}
		})
	}
}

func TestALookThatFindsNothingMovesTheStretch(t *testing.T) {
	t.Parallel()
	cfg, _ := admin(t)
	s := quiet(cfg)
	s.feed.received.Store(9)
	if err := s.recheck(t.Context()); err != nil || s.sound.Load() != 9 {
		t.Errorf("recheck = %v with all well up to %d, want no error and 9", err, s.sound.Load())
	}
}

// The publication is looked at first, and may be gone when its columns are.
func TestAPublicationThatVanishesBetweenTwoLooksIsMissing(t *testing.T) {
	t.Parallel()
	cfg, conn := admin(t)
	table, err := cfg.checkPublished(t.Context(), conn, 0)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, conn, "drop publication walpost_outbox")
	err = cfg.checkColumns(t.Context(), conn, table)
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != relay.PublicationMissing {
		t.Errorf("checkColumns = %v, want a halt of cause publication_missing", err)
	}
}

// The server looks at its catalog twice in one statement, and may find the publication only the first time.
func TestAPublicationThatVanishesDuringALookIsMissing(t *testing.T) {
	t.Parallel()
	cfg, conn := admin(t)
	looker, err := cfg.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t.Context(), looker)
	for range 50 {
		gone := make(chan *relay.HaltError, 1)
		go func() {
			var halt *relay.HaltError
			for halt == nil && t.Context().Err() == nil { // PostgreSQL 18 may trip over its own race, which passes
				_, err := cfg.checkPublished(t.Context(), looker, 0)
				errors.As(err, &halt)
			}
			gone <- halt
		}()
		execute(t, conn, "drop publication walpost_outbox")
		if halt := <-gone; halt == nil || halt.Cause != relay.PublicationMissing {
			t.Fatalf("checkPublished = %v, want a halt of cause publication_missing", halt)
		}
		execute(t, conn, "create publication walpost_outbox for table outbox_events with (publish = 'insert', publish_via_partition_root = true)")
	}
}

func TestAStartRefusedForTheSlotsStateIsExplainedByTheCatalog(t *testing.T) {
	t.Parallel()
	cfg, conn := admin(t)
	refused := &pgconn.PgError{Code: "55000", Message: "a text that differs between versions"}
	execute(t, conn, "select pg_create_logical_replication_slot($1, 'test_decoding')", cfg.Slot)
	err := cfg.explainStart(t.Context(), conn, refused)
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != relay.SlotMissing || !strings.Contains(err.Error(), "test_decoding") || !errors.Is(err, refused) {
		t.Errorf("explainStart = %v, want a halt of cause slot_missing that says why, and the server's words", err)
	}
	execute(t, conn, "select pg_drop_replication_slot($1)", cfg.Slot)
	execute(t, conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", cfg.Slot)
	if err := cfg.explainStart(t.Context(), conn, refused); !errors.Is(err, refused) || errors.As(err, &halt) {
		t.Errorf("explainStart of a slot in order = %v, want the server's error alone", err)
	}
}

func TestTheURLCannotUndoWhatTheSessionNeeds(t *testing.T) {
	t.Parallel()
	cfg, err := Config{URL: "postgres://localhost/x?timezone=Asia/Tokyo&DATESTYLE=German&row_security=on&search_path=mine"}.withDefaults().parseURL()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for name, value := range cfg.RuntimeParams {
		if was, twice := seen[strings.ToLower(name)]; twice {
			t.Errorf("parameter %s is sent twice, as %q and %q", name, was, value)
		}
		seen[strings.ToLower(name)] = value
	}
	for name, want := range map[string]string{"timezone": "UTC", "datestyle": "ISO", "row_security": "off", "search_path": "mine"} {
		if seen[name] != want {
			t.Errorf("parameter %s = %q, want %q", name, seen[name], want)
		}
	}
}

func TestCommandsNameWhatIsNotTheDefault(t *testing.T) {
	t.Parallel()
	c := Config{}.withDefaults()
	if got, want := c.slotCommand("drop")+"; "+c.createCommand(), "walpost slot drop; walpost slot create"; got != want {
		t.Errorf("commands = %q, want %q", got, want)
	}
	c.Slot, c.Table, c.Publication = "orders", `"My Sales".outbox`, "it's"
	if got, want := c.slotCommand("drop"), "walpost slot drop --slot orders"; got != want {
		t.Errorf("slotCommand(drop) = %q, want %q", got, want)
	}
	if got, want := c.createCommand("--skip-existing"), `walpost slot create --skip-existing --slot orders --table '"My Sales".outbox' --publication 'it'\''s'`; got != want {
		t.Errorf("createCommand() = %q, want %q", got, want)
	}
}

func TestASlotIsMovedOnlyOnTheServerThatThePositionIsFrom(t *testing.T) {
	t.Parallel()
	cfg, conn := admin(t)
	execute(t, conn, "select pg_create_logical_replication_slot($1, 'pgoutput')", cfg.Slot)
	wire, here, err := cfg.startReplication(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := wire.Conn.Close(); err != nil {
		t.Fatal(err)
	}
	made, err := cfg.readSlot(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	execute(t, conn, "create table noise ()")
	end := made.Confirmed + 1
	for what, o := range map[string]relay.Origin{
		"another cluster":  {SystemID: here.SystemID + "0", Timeline: here.Timeline},
		"another timeline": {SystemID: here.SystemID, Timeline: here.Timeline + 1},
	} {
		err := cfg.moveSlot(t.Context(), o, end)
		if s, readErr := cfg.readSlot(t.Context(), conn); err == nil || readErr != nil || s.Confirmed != made.Confirmed {
			t.Errorf("moveSlot to a position of %s = %v, slot from %s to %s, want an error and no move", what, err, made.Confirmed, s.Confirmed)
		}
	}
	deadline := time.Now().Add(time.Minute)
	for err = cfg.moveSlot(t.Context(), here, end); code(err) == "55006" && time.Now().Before(deadline); { // the stream above is about to let go
		err = cfg.moveSlot(t.Context(), here, end)
	}
	if s, readErr := cfg.readSlot(t.Context(), conn); err != nil || readErr != nil || s.Confirmed != end {
		t.Errorf("moveSlot = %v, slot at %s, want it at %s", err, s.Confirmed, end)
	}
}
