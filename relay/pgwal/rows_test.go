package pgwal_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

var update = flag.Bool("update", false, "record the stream of a real server anew")

func TestOnlyWhatCommittedComes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql  []string // each its own statement list, that is, its own transaction unless it says otherwise
		want []string
	}{
		"a rolled back transaction does not": {
			sql: []string{"begin;" + insert("no") + "rollback;", insert("yes")}, want: []string{"yes"},
		},
		"a rolled back savepoint does not": {
			sql:  []string{"begin;" + insert("a") + "savepoint s;" + insert("no") + "rollback to s;" + insert("b") + "release s;" + insert("c") + "commit;"},
			want: []string{"a", "b", "c"},
		},
		"rows of one statement come in their order": {
			sql:  []string{"insert into outbox_events (id, aggregate_id, event_type) select gen_random_uuid(), n::text, 'things' from generate_series(1, 5) n"},
			want: []string{"1", "2", "3", "4", "5"},
		},
		"a row that is deleted in its own transaction does": {
			sql: []string{"begin;" + insert("gone") + "delete from outbox_events; commit;"}, want: []string{"gone"},
		},
		"an update and a delete do not": {
			sql:  []string{insert("a"), "update outbox_events set aggregate_id = 'changed'", "delete from outbox_events", "truncate outbox_events", insert("b")},
			want: []string{"a", "b"},
		},
		"a prepared transaction does when it is committed": {
			sql: []string{
				"begin;" + insert("prepared first, committed last") + "prepare transaction 'walpost_test'", insert("in between"), "commit prepared 'walpost_test'",
				"begin;" + insert("no") + "prepare transaction 'walpost_test'", "rollback prepared 'walpost_test'",
			},
			want: []string{"in between", "prepared first, committed last"},
		},
		"a logical message is no event": {
			sql: []string{"select pg_logical_emit_message(true, 'outbox', '{}')", insert("a")}, want: []string{"a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			s := open(t, d.source(t, nil))
			for _, sql := range append(tc.sql, insert("last")) {
				d.exec(t, sql)
			}
			if diff := cmp.Diff(append(tc.want, "last"), keys(read(t, s, len(tc.want)+1))); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRowsOfACopyHavePositionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	s := open(t, d.source(t, nil))
	var rows [][]any
	want := []string{}
	for i := range 1000 {
		want = append(want, fmt.Sprint(i))
		rows = append(rows, []any{fmt.Sprintf("0199a0c5-7a30-7f2a-9d52-%012d", i), want[i], "things"})
	}
	columns := []string{"id", "aggregate_id", "event_type"}
	if _, err := d.CopyFrom(t.Context(), pgx.Identifier{"outbox_events"}, columns, pgx.CopyFromRows(rows)); err != nil {
		t.Fatal(err)
	}
	got := read(t, s, len(rows))
	if diff := cmp.Diff(want, keys(got)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for i, ev := range got {
		if ev.Position.Commit != got[0].Position.Commit || ev.Position.Index != uint32(i) {
			t.Fatalf("position of row %d = %s, want index %d of %s", i, ev.Position, i, got[0].Position.Commit)
		}
	}
}

func TestValuesComeByteForByte(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"datestyle = 'ISO'", "datestyle = 'SQL, DMY'", "bytea_output = 'escape'", "client_encoding = 'LATIN1'"} {
		t.Run("where "+setting, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			d.set(t, setting)
			s := open(t, d.source(t, nil))
			var want []string
			for _, payload := range []string{
				`{"z":1,"a":2,"z":3}`, `{"n":9007199254740993,"m":1e400,"k":-0.0}`, `"\u00e9\ud83d\ude00 é😀\u2028"`, " [ 1 ,\n2 ] ", "{}", "null", `""`,
				`{"large":"` + strings.Repeat("é", 450_000) + `"}`,
			} {
				want = append(want, payload)
				d.exec(t, "insert into outbox_events (id, aggregate_id, event_type, payload) values (gen_random_uuid(), 'k', 'things', $1::text::json)", payload)
			}
			for i, ev := range read(t, s, len(want)) {
				if got := string(ev.Record.Value); got != want[i] {
					t.Errorf("payload = %.60q (%d bytes), want %.60q (%d bytes)", got, len(got), want[i], len(want[i]))
				}
			}
		})
	}
}

func TestNullsAreNulls(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	s := open(t, d.source(t, nil))
	d.exec(t, "insert into outbox_events (id, aggregate_id, event_type) values ('0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001', 'k', 'things')")
	want := record.Record{Topic: "things", Key: []byte("k"), Headers: []record.Header{
		{Key: "id", Value: []byte("0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001")},
		{Key: "event_type", Value: []byte("things")},
		{Key: "aggregate_type"},
		{Key: "traceparent"},
		{Key: "headers"},
	}}
	if diff := cmp.Diff(want, read(t, s, 1)[0].Record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestATableOfAnotherShapeIsServed(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	d := database{Pool: pgtest.Pool(t, url), url: url, slot: pgtest.SlotName(t)}
	d.exec(t, `create schema "My Sales"; create type kind as enum ('created', 'closed');
		create table "My Sales"."Out'box" (seq bigserial, "aggregateId" int8, type kind, payload bytea, id text primary key);
		create publication "pub ""x""'" for table "My Sales"."Out'box" with (publish = 'insert, update')`)
	d.set(t, "bytea_output = 'escape'")
	s := open(t, d.source(t, func(c *pgwal.Config) {
		c.Table, c.Publication = `"My Sales"."Out'box"`, `pub "x"'`
		c.Mapping = record.Mapping{Key: "aggregateId", Placed: []string{"type:event_type"}, Topic: "orders.${type}"}
	}))
	d.exec(t, `insert into "My Sales"."Out'box" ("aggregateId", type, payload, id) values (7, 'closed', '\x00ff', 'first')`)
	want := record.Record{Topic: "orders.closed", Key: []byte("7"), Value: []byte{0, 0xff}, Headers: []record.Header{
		{Key: "id", Value: []byte("first")}, {Key: "event_type", Value: []byte("closed")},
	}}
	if diff := cmp.Diff(want, read(t, s, 1)[0].Record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestTheTableMayChangeWhileItIsRead(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	s := open(t, d.source(t, nil))
	for _, sql := range []string{
		insert("1"),
		"alter table outbox_events add column extra text default 'x'", insert("2"),
		"alter table outbox_events rename column extra to more", insert("3"),
		"alter table outbox_events drop column more", insert("4"),
		"alter table outbox_events add column again int", insert("5"),
		"vacuum full outbox_events", insert("6"),
		"alter table outbox_events rename to renamed", strings.ReplaceAll(insert("7"), "outbox_events", "renamed"),
		"alter table renamed rename to outbox_events", insert("8"),
	} {
		d.exec(t, sql)
	}
	if diff := cmp.Diff([]string{"1", "2", "3", "4", "5", "6", "7", "8"}, keys(read(t, s, 8))); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestADroppedColumnHaltsBehindWhatCameBefore(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	s := open(t, d.source(t, nil))
	d.exec(t, insert("before"))
	d.exec(t, "alter table outbox_events drop column traceparent")
	d.exec(t, insert("behind"))
	if diff := cmp.Diff([]string{"before"}, keys(read(t, s, 1))); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	_, err := next(t, s)
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != relay.ColumnMissing || !strings.Contains(err.Error(), "traceparent") || halt.From == 0 {
		t.Errorf("Next = %v, want a halt of cause column_missing with its LSN", err)
	}
}

func TestAChangedTypeHaltsUntilTheRelayIsStartedAgain(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	src := d.source(t, nil)
	s := open(t, src)
	d.exec(t, insert("before"))
	d.exec(t, "alter table outbox_events alter column payload type text")
	d.exec(t, insert("behind"))
	b, err := next(t, s)
	if err != nil {
		t.Fatal(err)
	}
	s.Confirm(b.End)
	_, err = next(t, s)
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != relay.ColumnMissing {
		t.Fatalf("Next = %v, want a halt of cause column_missing", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, src) // as after a lost connection
	if _, err = next(t, s); !errors.As(err, &halt) || halt.Cause != relay.ColumnMissing {
		t.Fatalf("Next on the next connection = %v, want a halt of cause column_missing", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"behind"}, keys(read(t, open(t, d.source(t, nil)), 1))); diff != "" {
		t.Errorf("keys after a new start (-want +got):\n%s", diff)
	}
}

func TestARowThatCannotBePublishedIsLeftOutAsTheHaltSays(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.exec(t, "alter table outbox_events drop constraint outbox_events_event_type_topic")
	src := d.source(t, nil)
	s := open(t, src)
	d.exec(t, insert("before"))
	d.exec(t, "begin;"+insert("with it")+strings.ReplaceAll(insert("bad"), "'things'", "'no topic'")+"commit")
	d.exec(t, insert("behind"))
	b, err := next(t, s)
	if err != nil {
		t.Fatal(err)
	}
	s.Confirm(b.End)
	_, err = next(t, s)
	wantHalt(t, "Next", err, relay.Unpublishable, "no topic")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, skip, found := strings.Cut(err.Error(), "leave that transaction out: ")
	skip, _, ends := strings.Cut(skip, ", then walpost slot adopt")
	if !found || !ends {
		t.Fatalf("Next = %v, want a statement to run", err)
	}
	eventually(t, "the statement of the hint", func() bool {
		_, err := d.Exec(t.Context(), skip)
		return err == nil
	})
	if diff := cmp.Diff([]string{"behind"}, keys(read(t, open(t, src), 1))); diff != "" {
		t.Errorf("keys behind the transaction left out (-want +got):\n%s", diff)
	}
}

// TestRecordedStream records what the fuzz tests begin with: go test -run TestRecordedStream -update.
func TestRecordedStream(t *testing.T) {
	t.Parallel()
	if !*update {
		return
	}
	d := migrated(t)
	d.exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", d.slot)
	d.exec(t, insert("one"))
	d.exec(t, "begin;"+insert("two")+"savepoint s;"+insert("no")+"rollback to s;"+insert("three")+"commit")
	d.exec(t, "insert into outbox_events (id, aggregate_id, event_type) values (gen_random_uuid(), 'k', 'things')")
	d.exec(t, "alter table outbox_events add column mood text")
	d.exec(t, insert("four"))
	d.exec(t, "select pg_logical_emit_message(true, 'outbox', '{}')")
	rows, err := d.Query(t.Context(), `select encode(data, 'hex') from pg_logical_slot_peek_binary_changes($1, null, null,
		'proto_version', '1', 'publication_names', 'walpost_outbox', 'messages', 'true')`, d.slot)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/stream.hex", []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}
