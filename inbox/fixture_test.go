package inbox_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/record"
)

const (
	topic       = "notif.user.registration"
	deadLetters = "eventdriven-examples.dlq"
	group       = "walpost-notify"
	limit       = 3 * time.Minute // for anything a test waits for
)

// world is a broker, a database and what happened to them.
type world struct {
	t        *testing.T
	kafka    *kafkatest.Cluster
	url      string
	pool     *pgxpool.Pool
	producer *kgo.Client
	admin    *kadm.Client
}

// newWorld starts a broker with the topic (one partition) and the dead-letter topic (three), and a migrated database with a table of
// effects. That table has no unique key, so that an effect applied twice shows.
func newWorld(t *testing.T, opts ...kfake.Opt) *world {
	t.Helper()
	return newWorldOn(t, pgtest.Migrated(t), opts...)
}

func newWorldOn(t *testing.T, url string, opts ...kfake.Opt) *world {
	t.Helper()
	w := &world{t: t, kafka: kafkatest.Start(t, opts...), url: url}
	w.pool = w.poolWith("pool_max_conns=20")
	w.kafka.CreateTopic(t, topic, 1)
	w.kafka.CreateTopic(t, deadLetters, 3)
	w.producer = w.kafka.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	w.admin = kadm.NewClient(w.kafka.Client(t))
	w.exec("create table effects (n bigserial primary key, msg_id text not null, key text not null, value text, member text)")
	return w
}

func (w *world) poolWith(settings ...string) *pgxpool.Pool {
	w.t.Helper()
	sep := "?"
	if strings.Contains(w.url, "?") {
		sep = "&"
	}
	return pgtest.Pool(w.t, w.url+sep+strings.Join(settings, "&"))
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// event is what a test publishes.
type event struct {
	id, key, value string
	topic          string // "": the topic
	eventType      string // "": the topic's name
	partition      int32
	headers        []kgo.RecordHeader
}

func newID() string { return outbox.NewID().String() }

func (e event) record() *kgo.Record {
	e.topic = cmp.Or(e.topic, topic)
	r := &kgo.Record{Topic: e.topic, Partition: e.partition, Key: []byte(e.key), Value: []byte(e.value)}
	r.Headers = append(r.Headers,
		kgo.RecordHeader{Key: record.HeaderID, Value: []byte(e.id)},
		kgo.RecordHeader{Key: record.HeaderEventType, Value: []byte(cmp.Or(e.eventType, topic))})
	r.Headers = append(r.Headers, e.headers...)
	return r
}

// publish gives ids to the events that have none, publishes them in order and returns them.
func (w *world) publish(events ...event) []event {
	w.t.Helper()
	records := make([]*kgo.Record, len(events))
	for i := range events {
		events[i].id = cmp.Or(events[i].id, newID())
		records[i] = events[i].record()
	}
	w.produce(records...)
	return events
}

func (w *world) produce(records ...*kgo.Record) {
	w.t.Helper()
	if err := w.producer.ProduceSync(w.t.Context(), records...).FirstErr(); err != nil {
		w.t.Fatalf("publish: %v", err)
	}
}

// effect writes one row into effects; it is the handler of most tests.
func effect(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
	_, err := tx.Exec(ctx, "insert into effects (msg_id, key, value) values ($1, $2, $3)", m.ID, m.Key, string(m.Payload))
	return err
}

// effects are the rows, as key=value, in the order in which they were written.
func (w *world) effects() []string {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), "select key || '=' || coalesce(value, '') from effects order by n")
	if err != nil {
		w.t.Fatalf("read effects: %v", err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.t.Fatalf("read effects: %v", err)
	}
	return got
}

func (w *world) count(table string) int {
	w.t.Helper()
	var n int
	if err := w.pool.QueryRow(w.t.Context(), "select count(*) from "+table).Scan(&n); err != nil {
		w.t.Fatalf("count %s: %v", table, err)
	}
	return n
}

// committed is the group's offset in a partition, -1 when there is none.
func (w *world) committed(topic string, partition int32) int64 {
	w.t.Helper()
	offsets, err := w.admin.FetchOffsets(w.t.Context(), group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		w.t.Fatalf("fetch offsets of %s: %v", group, err)
	}
	if o, ok := offsets.Lookup(topic, partition); ok {
		return o.At
	}
	return -1
}

func (w *world) awaitCommitted(partition int32, offset int64) {
	w.t.Helper()
	await(w.t, fmt.Sprintf("offset %d committed in partition %d", offset, partition), func() bool {
		return w.committed(topic, partition) == offset
	})
}

// await polls a condition.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain for: %s", limit, what)
		}
	}
}

// receive takes from a channel.
func receive[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(limit):
		t.Fatalf("waited %v in vain for: %s", limit, what)
		panic("unreachable")
	}
}

// member is a running consumer.
type member struct {
	t        *testing.T
	consumer *inbox.Consumer
	seen     *observer
	log      *logBuffer
	cancel   context.CancelFunc
	ended    chan struct{}
	err      error // of Run, once ended is closed
}

// start runs a consumer with the effect handler, unless edit changes that. It is stopped when the test ends.
func (w *world) start(edit func(*inbox.Config)) *member {
	w.t.Helper()
	m := &member{t: w.t, seen: newObserver(), log: &logBuffer{}, ended: make(chan struct{})}
	cfg := inbox.Config{
		Brokers: w.kafka.Brokers, Group: group, Topics: []string{topic},
		Handlers: map[string]inbox.TxHandler{topic: effect},
		Retry:    inbox.RetryPolicy{Attempts: 5, Min: 5 * time.Millisecond, Max: 50 * time.Millisecond},
		Observer: m.seen,
		Logger:   slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		ClientOptions: []kgo.Opt{
			kgo.HeartbeatInterval(50 * time.Millisecond), kgo.SessionTimeout(45 * time.Second), kgo.RebalanceTimeout(time.Minute),
			kgo.FetchMaxWait(100 * time.Millisecond), kgo.MetadataMinAge(50 * time.Millisecond),
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	c, err := inbox.New(w.pool, cfg)
	if err != nil {
		w.t.Fatalf("New: %v", err)
	}
	m.consumer = c
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go func() {
		defer close(m.ended)
		m.err = c.Run(ctx)
	}()
	w.t.Cleanup(func() {
		_ = m.stop() // a test that cares has stopped it
		if w.t.Failed() {
			w.t.Logf("log of the consumer:\n%s", m.log)
		}
	})
	return m
}

// stop ends the consumer and returns what Run returned.
func (m *member) stop() error {
	m.t.Helper()
	m.cancel()
	return m.wait()
}

func (m *member) wait() error {
	m.t.Helper()
	select {
	case <-m.ended:
	case <-time.After(2 * limit):
		m.t.Fatalf("Run did not return within %v", 2*limit)
	}
	return m.err
}

func (m *member) mustStop() {
	m.t.Helper()
	if err := m.stop(); err != nil {
		m.t.Fatalf("Run = %v, want a clean drain", err)
	}
}

// awaitResults waits until the consumer has reported at least n results of a kind.
func (m *member) awaitResults(r inbox.Result, n int) {
	m.t.Helper()
	await(m.t, fmt.Sprintf("%d results %q", n, r), func() bool { return m.seen.results(r) >= n })
}

func (m *member) awaitReady() {
	m.t.Helper()
	await(m.t, "the consumer to be ready", func() bool { return m.consumer.Ready() == nil })
}
