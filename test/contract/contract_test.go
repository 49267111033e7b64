package contract_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
	"github.com/walpost/walpost/relay/pgwal"
)

// columns are those of row.values.
var columns = []record.Column{
	{Name: "id", TypeOID: 2950},
	{Name: "aggregate_type", TypeOID: 25},
	{Name: "aggregate_id", TypeOID: 25},
	{Name: "event_type", TypeOID: 25},
	{Name: "payload", TypeOID: 114},
	{Name: "headers", TypeOID: 3802},
	{Name: "traceparent", TypeOID: 25},
}

// source is an outbox to be published.
type source struct {
	url, slot, table string
	mapping          record.Mapping
	bytea            bool          // the payload
	positions        bool          // walpost's headers of it are asked for
	poll, heartbeat  time.Duration // of Debezium; default: 10 ms and 10 s
}

// relays are the publishers that must be interchangeable. Each publishes what the slot has, and what is to come, until the test ends.
var relays = map[string]func(*testing.T, *stack, source){
	"debezium":              runDebezium,
	"walpost":               runWalpost, // exactly once
	"walpost-at-least-once": runAtLeastOnce,
}

func runDebezium(t *testing.T, s *stack, src source) {
	t.Helper()
	s.apply(t, debeziumOf(t, src))
}

func debeziumOf(t *testing.T, src source) debezium.Config {
	t.Helper()
	return debezium.Config{
		Name: src.slot, Slot: src.slot, TopicPrefix: src.slot, Database: databaseOf(t, src.url), Table: src.table, Mapping: src.mapping,
		BinaryPayload: src.bytea, Tuning: debezium.Tuning{Poll: max(src.poll, 10*time.Millisecond), Heartbeat: src.heartbeat},
	}
}

func runWalpost(t *testing.T, s *stack, src source) {
	t.Helper()
	runRelay(t, s, src, relay.ExactlyOnce)
}

func runAtLeastOnce(t *testing.T, s *stack, src source) {
	t.Helper()
	runRelay(t, s, src, relay.AtLeastOnce)
}

func newRelay(t *testing.T, s *stack, src source, delivery relay.Delivery) *relay.Relay {
	t.Helper()
	from, err := pgwal.New(pgwal.Config{URL: src.url, Slot: src.slot, Table: src.table, Mapping: src.mapping})
	if err != nil {
		t.Fatal(err)
	}
	to, err := kafkasink.New(kafkasink.Config{Brokers: []string{s.broker.Addr()}, Delivery: delivery, PositionHeaders: src.positions})
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(from, to, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func runRelay(t *testing.T, s *stack, src source, delivery relay.Delivery) {
	t.Helper()
	r := newRelay(t, s, src, delivery)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v, want nil at the end of its context", err)
		}
	})
}

func mapping(relay string) record.Mapping { return record.Mapping{Topic: relay + ".${event_type}"} }

// databaseOf is how the worker reaches a test's database.
func databaseOf(t *testing.T, url string) debezium.Database {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	return debezium.Database{Host: config.Host, Port: int(config.Port), Name: config.Database, User: config.User, SSLMode: "disable"}
}

// seen is what a consumer can see of a record, except its time and offset.
type seen struct {
	Partition  int32  // -1: any, as the record has no key
	Key, Value string // null: see text
	Headers    []string
}

func text(b []byte) string {
	if b == nil {
		return "null"
	}
	return strconv.Quote(string(b))
}

func seenOf(r *kgo.Record) seen {
	s := seen{Partition: r.Partition, Key: text(r.Key), Value: text(r.Value)}
	if r.Key == nil {
		s.Partition = -1
	}
	for _, h := range r.Headers {
		s.Headers = append(s.Headers, h.Key+"="+text(h.Value))
	}
	return s
}

// partitioned is the record as it goes to Kafka: its partition is murmur2 of the key, as Java's client does it.
func partitioned(rec record.Record) *kgo.Record {
	kr := &kgo.Record{Topic: rec.Topic, Key: rec.Key, Value: rec.Value}
	for _, h := range rec.Headers {
		kr.Headers = append(kr.Headers, kgo.RecordHeader(h))
	}
	kr.Partition = int32(kgo.StickyKeyPartitioner(nil).ForTopic(rec.Topic).Partition(kr, partitions))
	return kr
}

func byPartition(records []seen) map[int32][]seen {
	m := make(map[int32][]seen)
	for _, r := range records {
		m[r.Partition] = append(m[r.Partition], r)
	}
	return m
}

// wantOf is what package record makes of the rows.
func wantOf(t *testing.T, m record.Mapping, rows []row) []seen {
	t.Helper()
	encoder, err := m.Resolve(columns)
	if err != nil {
		t.Fatal(err)
	}
	var want []seen
	for _, r := range rows {
		rec, err := encoder.Encode(r.values())
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, seenOf(partitioned(rec)))
	}
	return want
}

func TestEveryRelayWritesTheRecordsOfPackageRecord(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	url := pgtest.StartServer(t).Migrated(t)
	eventType := func(i int) string { return fmt.Sprintf("contract.%d", i) }
	last := len(scenarios) // the topic of the event that ends the test
	var topics []string
	for name := range relays {
		for i := range last + 1 {
			topics = append(topics, name+"."+eventType(i))
		}
	}
	s.createTopics(t, topics...)
	pool := pgtest.Pool(t, url)
	outbox{t, pool, eventType(0)}.insert(pool, nil) // older than the slots and so not theirs
	slots := make(map[string]string)
	for name := range relays {
		slots[name] = createSlot(t, pool)
	}
	written := make([][]row, last)
	total := 0
	for i, sc := range scenarios {
		if i == 1 { // what was written before its start is a relay's as well
			for name, start := range relays {
				start(t, s, source{url: url, slot: slots[name], table: "public.outbox_events", mapping: mapping(name)})
			}
		}
		written[i] = sc.write(outbox{t, pool, eventType(i)})
		total += len(written[i])
	}
	reader := s.reader(t, topics...)
	reader.read(len(relays) * total)
	// Whatever was to come besides has come before an event that was written after the others had arrived.
	outbox{t, pool, eventType(last)}.insert(pool, nil)
	reader.read(len(relays) * (total + 1))

	for name := range relays {
		for i, sc := range scenarios {
			t.Run(name+": "+sc.name, func(t *testing.T) {
				want := byPartition(wantOf(t, mapping(name), written[i]))
				if diff := cmp.Diff(want, reader.seen(name+"."+eventType(i))); diff != "" {
					t.Errorf("records by partition (-of package record +of %s):\n%.4000s", name, diff)
				}
			})
		}
	}
	fmt.Fprintf(os.Stdout, "counts: contract, %d scenarios, %d records of each of %d relays compared\n", last, total, len(relays))
}

func createSlot(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	slot := pgtest.SlotName(t)
	if _, err := pool.Exec(t.Context(), `select pg_create_logical_replication_slot($1, 'pgoutput')`, slot); err != nil {
		t.Fatal(err)
	}
	return slot
}

// seen are the records of a topic by partition.
func (r *reader) seen(topic string) map[int32][]seen {
	var got []seen
	for _, rec := range r.records[topic] {
		got = append(got, seenOf(rec))
	}
	return byPartition(got)
}
