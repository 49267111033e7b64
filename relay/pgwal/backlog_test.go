package pgwal_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// backlog makes the slot and writes what nobody reads yet.
func (d database) backlog(t testing.TB, statements ...string) {
	t.Helper()
	if err := pgwal.CreateSlot(t.Context(), d.config()); err != nil {
		t.Fatal(err)
	}
	for _, sql := range statements {
		d.exec(t, sql)
	}
}

// The server keeps little of a transaction in memory; what it wrote to its disk before the rollback must not come either.
func TestASavepointRolledBackInsideAHugeTransactionDoesNotCome(t *testing.T) {
	t.Parallel()
	const part = 2_000
	d := migrated(t)
	d.set(t, "logical_decoding_work_mem = '64kB'")
	rows := func(kind string, from int) string {
		return fmt.Sprintf(`insert into outbox_events (id, aggregate_id, event_type, payload)
			select gen_random_uuid(), '%s' || n, 'things', to_json(repeat('x', 200)) from generate_series(%d, %d) n;`, kind, from, from+part-1)
	}
	d.backlog(t, "begin;"+rows("", 1)+
		"savepoint a;"+rows("no", 1)+"rollback to a;"+
		"savepoint b;"+rows("", part+1)+"savepoint c;"+rows("no", part+1)+"rollback to c;"+"release b;"+
		"savepoint d;"+rows("no", 2*part+1)+"savepoint e;"+rows("no", 3*part+1)+"release e;"+"rollback to d;"+
		rows("", 2*part+1)+"commit;"+insert("last"))
	s := open(t, d.source(t, nil))
	got := read(t, s, 3*part+1)
	commit := got[0].Position.Commit
	for i, ev := range got[:3*part] {
		if string(ev.Record.Key) != fmt.Sprint(i+1) || ev.Position != (relay.Position{Commit: commit, Index: uint32(i)}) {
			t.Fatalf("event %d = key %s at %s, want key %d at %s#%d", i, ev.Record.Key, ev.Position, i+1, commit, i)
		}
	}
	if last := got[3*part]; string(last.Record.Key) != "last" || last.Position.Commit <= commit {
		t.Errorf("event behind the transaction = key %s at %s, want last, behind %s", last.Record.Key, last.Position, commit)
	}
	var spilled int64
	eventually(t, "the server's statistics", func() bool {
		d.scan(t, "select spill_txns from pg_stat_replication_slots where slot_name = $1", []any{d.slot}, &spilled)
		return spilled > 0 // else this test has tested nothing
	})
}

func TestABacklogIsReadThroughChangesOfTheTable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql   []string
		table string // as the relay is told when it starts
		want  []string
	}{
		"added, renamed and dropped columns": {
			sql: []string{
				insert("1"),
				"alter table outbox_events add column extra text default 'x'", insert("2"),
				"alter table outbox_events rename column extra to more", insert("3"),
				"alter table outbox_events drop column more", insert("4"),
				"begin;" + insert("5") + "alter table outbox_events add column again int;" + insert("6") + "commit",
				"alter table outbox_events alter column created_at type timestamptz(3)", insert("7"),
				"vacuum full outbox_events", insert("8"),
			},
			want: []string{"1", "2", "3", "4", "5", "6", "7", "8"},
		},
		"a renamed table": {
			sql:   []string{insert("1"), "alter table outbox_events rename to renamed", strings.ReplaceAll(insert("2"), "outbox_events", "renamed")},
			table: "renamed", want: []string{"1", "2"},
		},
		"a table renamed there and back": {
			sql: []string{
				insert("1"), "alter table outbox_events rename to renamed", strings.ReplaceAll(insert("2"), "outbox_events", "renamed"),
				"alter table renamed rename to outbox_events", insert("3"),
			},
			want: []string{"1", "2", "3"},
		},
		"a table moved to another schema": {
			sql:   []string{insert("1"), "create schema other; alter table outbox_events set schema other", strings.ReplaceAll(insert("2"), "outbox_events", "other.outbox_events")},
			table: "other.outbox_events", want: []string{"1", "2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			d.backlog(t, tc.sql...)
			s := open(t, d.source(t, func(c *pgwal.Config) { c.Table = tc.table }))
			got := read(t, s, len(tc.want))
			if diff := cmp.Diff(tc.want, keys(got)); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			for _, ev := range got { // whatever else the table has, the record is the same
				if diff := cmp.Diff(names(got[0].Record.Headers), names(ev.Record.Headers)); diff != "" || string(ev.Record.Value) != "{}" {
					t.Errorf("event %s = %s with headers (-want +got):\n%s", ev.Record.Key, ev.Record.Value, diff)
				}
			}
		})
	}
}

func names(headers []record.Header) (out []string) {
	for _, h := range headers {
		out = append(out, h.Key)
	}
	return out
}

func TestABacklogHaltsAtTheFirstRowWithoutARequiredColumn(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"a dropped column": "alter table outbox_events drop column traceparent",
		"a renamed column": "alter table outbox_events rename column traceparent to tracing",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			d.backlog(t, insert("before"), "begin;"+insert("with it")+change+";"+insert("lacks it")+"commit", insert("behind"))
			s := open(t, d.source(t, nil))
			if diff := cmp.Diff([]string{"before"}, keys(read(t, s, 1))); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
			b, err := next(t, s)
			wantHalt(t, "Next", err, relay.ColumnMissing, "traceparent")
			var halt *relay.HaltError
			if errors.As(err, &halt) && halt.From == 0 || len(b.Events) != 0 {
				t.Errorf("Next = %q, %v, want nothing of that transaction, and its LSN", keys(b.Events), err)
			}
		})
	}
}

func TestAMegabyteRowAndSmallOnesBehindItComeAsTheyAre(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.exec(t, "alter table outbox_events drop constraint outbox_events_payload_size")
	s := open(t, d.source(t, func(c *pgwal.Config) { c.QueueBytes, c.BatchBytes = 300_000, 100_000 })) // a row larger than the queue
	big := `"` + strings.Repeat("0123456789abcdef", 1<<16) + `"`
	want := []string{"1", big, "3", "4", big, "6"}
	for _, payload := range want[:3] {
		d.exec(t, "insert into outbox_events (id, aggregate_id, event_type, payload) values (gen_random_uuid(), 'k', 'things', $1::text::json)", payload)
	}
	d.exec(t, `insert into outbox_events (id, aggregate_id, event_type, payload)
		select gen_random_uuid(), 'k', 'things', p::json from unnest($1::text[]) with ordinality as u (p, n) order by n`, want[3:])
	got := read(t, s, len(want)) // all of them are kept, and none may be overwritten by the next
	for i, ev := range got {
		if string(ev.Record.Value) != want[i] {
			t.Errorf("payload %d = %.30q (%d bytes), want %.30q (%d bytes)", i, ev.Record.Value, len(ev.Record.Value), want[i], len(want[i]))
		}
	}
}

// Whoever collects rows to read them in one go must not wait for a second one.
func TestRule6ALoneEventIsNotHeldBack(t *testing.T) {
	t.Parallel()
	const times = 40
	d := migrated(t)
	s := open(t, d.source(t, nil))
	took := make([]time.Duration, times)
	for i := range took {
		d.exec(t, insert(fmt.Sprint(i)))
		began := time.Now() // it is committed
		read(t, s, 1)
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	if median := took[times/2]; median > 20*time.Millisecond {
		t.Errorf("median of %d events alone = %v behind their commit, want a few milliseconds at most", times, median)
	}
	t.Logf("behind the commit: median %v, worst %v", took[times/2], took[times-1])
}
