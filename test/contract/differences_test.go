package contract_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// conduct is what a relay does beside the contract: each field is a row of the table of differences in docs/debezium.md. What differs in the record of
// a row of a certain kind stands with the shapes.
type conduct struct {
	Positions bool     // position headers end the records, when they are asked for
	Markers   bool     // offsets are also taken by markers of transactions
	Topics    []string // made or written to, beside the events'
	Messages  []string // the kinds of logical messages in the database's log
	IDs       uint64   // transaction ids taken in the database; whatever writes takes one, but for messages outside a transaction
}

var differences = map[string]conduct{
	"walpost":               {Positions: true, Markers: true, Topics: []string{"outbox.relay.watermarks"}},
	"walpost-at-least-once": {Positions: true},
	"debezium": {
		Markers: true, Topics: []string{"__debezium-heartbeat.SLOT"}, Messages: []string{"walpost_heartbeat outside a transaction"},
		IDs: 1, // it begins by asking for pg_current_xact_id()
	},
}

// workerTopics are those of the worker itself, which its connectors share.
const workerTopics = "walpost-connect-"

// Not parallel: no other test may make topics meanwhile. Each relay has a server to itself, for the same reason.
func TestTheRelaysDifferAsTheGuideSays(t *testing.T) {
	s := realStack(t)
	var own []string
	for topic := range s.topics(t) {
		if strings.HasPrefix(topic, workerTopics) {
			own = append(own, topic)
		}
	}
	if len(own) != 3 {
		t.Errorf("topics of the worker = %q, want three", own)
	}
	for name, want := range differences {
		t.Run(name, func(t *testing.T) { observe(t, s, name, want) })
	}
}

// observe lets a relay publish what is there, idle while others write, and publish again, and holds what can be seen of that against what is known of it.
func observe(t *testing.T, s *stack, name string, want conduct) {
	url := pgtest.StartServer(t).Migrated(t)
	o := outbox{t, pgtest.Pool(t, url), "event"}
	src := source{url: url, slot: createSlot(t, o.pool), table: "public.outbox_events", positions: true, poll: time.Second, heartbeat: 200 * time.Millisecond}
	src.mapping.Topic = "differences." + src.slot
	witness := createSlot(t, o.pool)
	o.exec(`alter table outbox_events alter column created_at set default '2001-02-03'`) // the time of no record
	var rows []row
	o.in(func(tx pgx.Tx) error {
		rows = append(rows, o.insert(tx, nil), o.insert(tx, nil), o.insert(tx, func(r *row) { r.aggregateID = new("43") }))
		return nil
	})
	rows = append(rows, o.insert(o.pool, nil))
	s.createTopics(t, src.mapping.Topic)
	ends, xid, began := s.ends(t), nextXID(t, o.pool), time.Now().Truncate(time.Millisecond) // as precise as a record's time

	relays[name](t, s, src)
	reader := s.reader(t, src.mapping.Topic)
	reader.read(len(rows))
	o.exec(`create table busy as select generate_series(1, 1000)`)
	o.waitFor("the slot to pass what no publication has", advanced, src.slot, lsnNow(t, o.pool))
	for range 2 {
		o.waitFor("a sign of life of who reads the slot", `select coalesce(max(reply_time), '-infinity') > $1::timestamptz from pg_stat_replication`, now(t, o.pool))
	}
	if want.Messages != nil {
		o.waitFor("two heartbeats", `select count(*) > 1 from `+changes+` where get_byte(data, 0) = ascii('M')`, witness)
	}
	const more = 300
	for range more {
		rows = append(rows, o.insert(o.pool, nil))
	}
	reader.read(len(rows))

	published := reader.records[src.mapping.Topic]
	positions, messages := logged(t, o.pool, witness)
	markers := int(s.ends(t)[src.mapping.Topic]) - len(rows)
	got := conduct{
		Positions: slices.ContainsFunc(published[0].Headers, func(h kgo.RecordHeader) bool { return h.Key == record.HeaderLSN }),
		Markers:   markers > 0,
		Topics:    s.awaitTouched(t, ends, src, want.Topics),
		Messages:  messages,
		IDs:       nextXID(t, o.pool) - xid - 1 - more, // the table and the rows are the test's
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conduct of %s (-known +seen):\n%s", name, diff)
	}
	records := wantOf(t, src.mapping, rows)
	if want.Positions {
		for i := range records {
			records[i].Headers = append(records[i].Headers, positions[i]...)
		}
	}
	if diff := cmp.Diff(byPartition(records), reader.seen(src.mapping.Topic)); diff != "" {
		t.Errorf("records by partition (-of package record, with positions if any, +of %s):\n%.4000s", name, diff)
	}
	checkTimes(t, published, began, name == "debezium", markers)
}

// checkTimes wants times since the relay began, by which the first events were committed already. Those of Debezium, which reads all the while and publishes
// each second, are many in one transaction: it is not the time of the publishing.
func checkTimes(t *testing.T, published []*kgo.Record, began time.Time, read bool, transactions int) {
	t.Helper()
	times := make(map[time.Time]bool)
	for _, rec := range published {
		if created := rec.Attrs.TimestampType() == 0; !created || rec.Timestamp.Before(began) || rec.Timestamp.After(time.Now()) {
			t.Errorf("time of a record = %v, CreateTime %v, want a CreateTime since %v, when the relay began", rec.Timestamp, created, began)
		}
		times[rec.Timestamp] = true
	}
	if read && len(times) <= transactions {
		t.Errorf("%d times of records in %d transactions, want more: those at which the events were read", len(times), transactions)
	}
}

// awaitTouched returns the topics that are new or have grown since, except those of events and of the worker; as soon as they are as wanted, in the end
// as they are.
func (s *stack) awaitTouched(t *testing.T, since map[string]int64, src source, want []string) (touched []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_ = until(ctx, func(context.Context) error { // the caller compares
		touched = nil
		for topic, end := range s.ends(t) {
			if before, there := since[topic]; (!there || end > before) && topic != src.mapping.Topic && !strings.HasPrefix(topic, workerTopics) {
				touched = append(touched, strings.ReplaceAll(topic, src.slot, "SLOT"))
			}
		}
		if slices.Sort(touched); !slices.Equal(touched, want) {
			return errors.New("not yet")
		}
		return nil
	})
	return touched
}

// changes are what has passed a slot that nobody reads.
const changes = `pg_logical_slot_peek_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', 'walpost_outbox', 'messages', 'true')`

// logged is what PostgreSQL's own log tells: the position headers of each published row, and the kinds of logical messages.
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
func logged(t *testing.T, pool *pgxpool.Pool, slot string) (positions [][]string, messages []string) {
	t.Helper()
	rows, err := pool.Query(t.Context(), `select data from `+changes, slot)
	if err != nil {
		t.Fatal(err)
	}
	log, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	var lsn, at string
	index := 0
	for _, change := range log {
		switch change[0] {
		case 'B': // the LSN of the commit, its time in microseconds
			commit, micros := binary.BigEndian.Uint64(change[1:]), binary.BigEndian.Uint64(change[9:])
			lsn, index = fmt.Sprintf("%X/%X", commit>>32, uint32(commit)), 0
			at = epoch.Add(time.Duration(micros) * time.Microsecond).Format("2006-01-02T15:04:05.000000Z")
		case 'I':
			positions = append(positions, []string{
				fmt.Sprintf("walpost_lsn=%q", lsn), fmt.Sprintf("walpost_index=%q", fmt.Sprint(index)), fmt.Sprintf("walpost_committed_at=%q", at),
			})
			index++
		case 'M': // flags, its LSN, the prefix
			prefix, _, _ := bytes.Cut(change[10:], []byte{0})
			kind := string(prefix) + map[byte]string{0: " outside a transaction", 1: " in a transaction"}[change[1]]
			if !slices.Contains(messages, kind) {
				messages = append(messages, kind)
			}
		}
	}
	return positions, messages
}

// nextXID is the id of the next transaction that writes.
func nextXID(t *testing.T, pool *pgxpool.Pool) (xid uint64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `select pg_snapshot_xmax(pg_current_snapshot())::text::bigint`).Scan(&xid); err != nil {
		t.Fatal(err)
	}
	return xid
}

func now(t *testing.T, pool *pgxpool.Pool) (text string) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `select clock_timestamp()::text`).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// Package record, and so walpost, refuses what Debezium does not know and takes for NULL.
func TestAPlacedColumnOfTypeNameIsRefusedByWalpostAndNullFromDebezium(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	url := pgtest.StartServer(t).URL(t)
	o := outbox{t: t, pool: pgtest.Pool(t, url)}
	o.exec(`create table box (id uuid primary key, aggregate_id text, payload json, kind name)`)
	o.exec(`create publication walpost_outbox for table box with (publish = 'insert')`)
	src := source{url: url, table: "public.box", mapping: record.Mapping{Topic: "typed.name." + pgtest.SlotName(t), Placed: []string{"kind"}}}
	s.createTopics(t, src.mapping.Topic)
	slots := map[string]string{}
	for name := range relays {
		slots[name] = createSlot(t, o.pool)
	}
	id := "00000000-0000-7000-8000-000000000001"
	o.exec(`insert into box values ($1::text::uuid, '1', '{}', 'a kind')`, id)

	for name, delivery := range map[string]relay.Delivery{"walpost": relay.ExactlyOnce, "walpost-at-least-once": relay.AtLeastOnce} {
		src.slot = slots[name]
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := newRelay(t, s, src, delivery).Run(ctx)
		cancel()
		var halt *relay.HaltError
		if !errors.As(err, &halt) || halt.Cause != relay.ColumnMissing || halt.Cause.ExitCode() != 16 || !strings.Contains(err.Error(), `"kind"`) {
			t.Errorf("%s: Run() = %v, want a halt with exit code 16 that names column kind", name, err)
		}
		if n := s.ends(t)[src.mapping.Topic]; n != 0 {
			t.Errorf("%s: records = %d, want none", name, n)
		}
	}

	src.slot = slots["debezium"]
	runDebezium(t, s, src)
	reader := s.reader(t, src.mapping.Topic)
	reader.read(1)
	encoder, err := src.mapping.Resolve([]record.Column{{Name: "id", TypeOID: 2950}, {Name: "aggregate_id", TypeOID: 25}, {Name: "payload", TypeOID: 114}, {Name: "kind", TypeOID: 25}})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := encoder.Encode([][]byte{[]byte(id), []byte("1"), []byte("{}"), nil}) // a text that is NULL
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(byPartition([]seen{seenOf(partitioned(rec))}), reader.seen(src.mapping.Topic)); diff != "" {
		t.Errorf("records by partition (-of package record, were it NULL, +of Debezium):\n%s", diff)
	}
}
