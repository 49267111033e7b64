package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
	"github.com/walpost/walpost/relay/pgwal"
)

const patience = 30 * time.Second // the deadline of every wait

// whole is a database with an outbox, a broker with the topic things, and what a relay between them needs.
type whole struct {
	*pgxpool.Pool
	url    string
	slot   string
	broker *kafkatest.Cluster

	delivery relay.Delivery // of the relays that start starts
}

func newWhole(t testing.TB, url string, opts ...kfake.Opt) *whole {
	t.Helper()
	return &whole{
		Pool: pgtest.Pool(t, url), url: url, slot: pgtest.SlotName(t),
		broker: kafkatest.Start(t, append([]kfake.Opt{kfake.SeedTopics(3, "things")}, opts...)...),
	}
}

// inEach runs the test in both deliveries: for what they have in common.
func inEach(t *testing.T, test func(*testing.T, relay.Delivery)) {
	t.Helper()
	for _, delivery := range []relay.Delivery{relay.ExactlyOnce, relay.AtLeastOnce} {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			test(t, delivery)
		})
	}
}

// running is a relay in this process.
type running struct {
	states chan relay.State // every change of state, in order
	source *pgwal.Source
	cancel func()       // tells Run to end, as SIGTERM does
	stop   func() error // does so and returns Run's error; safe to call again
}

func (r *running) StateChanged(s relay.State, _ error) { r.states <- s }

// start runs a relay until the test ends or stops it.
func (w *whole) start(t testing.TB) *running {
	t.Helper()
	source := w.pgSource(t, nil)
	r := w.startFrom(t, source)
	r.source = source
	return r
}

// startFrom runs a relay of the source's events with the delivery of the whole, until the test ends or stops it.
func (w *whole) startFrom(t testing.TB, source relay.Source) *running {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	sink, err := kafkasink.New(kafkasink.Config{Brokers: w.broker.Brokers, Delivery: w.delivery, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	return w.run(t, source, sink)
}

// run runs a relay between the two until the test ends or stops it.
func (w *whole) run(t testing.TB, source relay.Source, sink relay.Sink) *running {
	t.Helper()
	r := &running{states: make(chan relay.State, 10_000)}
	engine, err := relay.New(source, sink, relay.Config{
		Observer: r, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), BackoffMin: 10 * time.Millisecond, BackoffMax: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- engine.Run(ctx) }()
	r.cancel, r.stop = cancel, sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = r.stop() }) // whoever wants the error has stopped it
	return r
}

// await waits for a state.
func (r *running) await(t testing.TB, want relay.State) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case got := <-r.states:
			if got == want {
				return
			}
		case <-deadline.C:
			t.Fatalf("relay was not %s within %v", want, patience)
		}
	}
}

func (w *whole) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	if _, err := w.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// insert is an insert of one event of the type things.
func insert(key string) string {
	return fmt.Sprintf("insert into outbox_events (id, aggregate_id, event_type, payload) values (gen_random_uuid(), '%s', 'things', '{}');", key)
}

// insertRange inserts events with the keys from to to, each in a transaction of its own.
func (w *whole) insertRange(t testing.TB, from, to int) {
	t.Helper()
	w.exec(t, fmt.Sprintf(`do $$ begin for n in %d..%d loop
		insert into outbox_events (id, aggregate_id, event_type, payload) values (gen_random_uuid(), n::text, 'things', '{}'); commit; end loop; end $$`, from, to))
}

func (w *whole) confirmed(t testing.TB) (lsn relay.LSN) {
	t.Helper()
	err := w.QueryRow(t.Context(), "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", w.slot).Scan(&lsn)
	if err != nil {
		t.Fatalf("look at slot %s: %v", w.slot, err)
	}
	return lsn
}

func (w *whole) currentLSN(t testing.TB) (lsn relay.LSN) {
	t.Helper()
	if err := w.QueryRow(t.Context(), "select pg_current_wal_lsn()::text").Scan(&lsn); err != nil {
		t.Fatal(err)
	}
	return lsn
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

// topicReader reads what is committed of the topic things, for as long as the test asks.
type topicReader struct {
	client *kgo.Client
	ids    map[string]int  // how often each event came
	next   map[int32]int64 // offset by partition
	first  []*kgo.Record   // first appearances, in order within each partition
}

func (w *whole) reader(t testing.TB) *topicReader {
	start := kgo.NewOffset().AtStart()
	return &topicReader{
		client: w.broker.Client(t, kgo.ConsumeTopics("things"), kgo.ConsumeStartOffset(start), kgo.ConsumeResetOffset(start), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()),
		ids:    make(map[string]int), next: make(map[int32]int64),
	}
}

// until reads until n different events have come.
func (r *topicReader) until(t testing.TB, n int) {
	t.Helper()
	r.read(t, func() (string, bool) { return fmt.Sprintf("%d of %d different events", len(r.ids), n), len(r.ids) >= n })
}

// toEnd reads on to the present end of what is committed.
func (r *topicReader) toEnd(t testing.TB) {
	t.Helper()
	ends, err := kadm.NewClient(r.client).ListCommittedOffsets(t.Context(), "things")
	if err != nil {
		t.Fatal(err)
	}
	r.read(t, func() (got string, done bool) {
		done = true
		ends.Each(func(o kadm.ListedOffset) { done = done && r.next[o.Partition] >= o.Offset })
		return fmt.Sprintf("offsets %v", r.next), done
	})
}

func (r *topicReader) read(t testing.TB, enough func() (got string, done bool)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for got, done := enough(); !done; got, done = enough() {
		fetches := r.client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("topic was read to %s within %v", got, patience)
		}
		fetches.EachRecord(r.note)
	}
}

func (r *topicReader) note(rec *kgo.Record) {
	r.next[rec.Partition] = rec.Offset + 1
	for _, h := range rec.Headers { // the marker of a transaction has none
		if h.Key != record.HeaderID {
			continue
		}
		if r.ids[string(h.Value)]++; r.ids[string(h.Value)] == 1 {
			r.first = append(r.first, rec)
		}
	}
}

// repeats counts the records beyond the first of each event.
func (r *topicReader) repeats() (n int) {
	for _, times := range r.ids {
		n += times - 1
	}
	return n
}

// published is the keys of all committed records of the topic, up to its end at present, in order within each partition.
func (w *whole) published(t testing.TB) []string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("topic things was not read within %v", patience))
	defer cancel()
	start := kgo.NewOffset().AtStart()
	client := w.broker.Client(t, kgo.ConsumeTopics("things"), kgo.ConsumeStartOffset(start), kgo.ConsumeResetOffset(start),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, "things")
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	keys := []string{}
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx))
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			if rec.Offset+1 >= left[rec.Partition] {
				delete(left, rec.Partition)
			}
			if !rec.Attrs.IsControl() {
				keys = append(keys, string(rec.Key))
			}
		})
	}
	return keys
}

// keepingSink is the sink of a relay that delivers exactly once.
func (w *whole) keepingSink(t *testing.T) *kafkasink.Sink {
	t.Helper()
	sink, err := kafkasink.New(kafkasink.Config{Brokers: w.broker.Brokers, Delivery: relay.ExactlyOnce})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

// adopt does what walpost slot adopt does.
func (w *whole) adopt(t *testing.T) {
	t.Helper()
	var err error
	eventually(t, "the slot to be free", func() bool {
		err = pgwal.HoldSlot(t.Context(), pgwal.Config{URL: w.url, Slot: w.slot}, func(o relay.Origin) error {
			return w.keepingSink(t).Adopt(t.Context(), o, relay.Watermark{Timeline: o.Timeline, End: o.Confirmed})
		})
		return !errors.Is(err, relay.ErrStandby)
	})
	if err != nil {
		t.Fatalf("adopt slot %s: %v", w.slot, err)
	}
}
