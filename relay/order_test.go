package relay_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxpgx"
	"github.com/walpost/walpost/relay"
)

var seed = flag.Uint64("seed", 0, "of the order test; 0 draws one")

var errChangedMind = errors.New("roll back")

// workload is what eight writers do: transactions of one to nine events, a tenth of them rolled back, a fifth of them with a savepoint that
// is rolled back. Each event has the next version of its key, drawn under the key's row lock, so that commit order and version agree.
type workload struct {
	want      int // events to commit
	keys      int
	committed atomic.Int64
	mu        sync.Mutex      // guards dropped
	dropped   map[string]bool // ids of events that were rolled back
}

func (w *workload) drop(ids ...outbox.EventID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		w.dropped[id.String()] = true
	}
}

// write is one writer.
func (w *workload) write(ctx context.Context, db *whole, rng *rand.Rand) error {
	for w.committed.Load() < int64(w.want) {
		n, rollback := 1+rng.IntN(9), rng.IntN(10) == 0
		var ids []outbox.EventID
		err := pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
			key := rng.IntN(w.keys)
			events, err := nextVersions(ctx, tx, key, n)
			if err != nil {
				return err
			}
			if rng.IntN(5) == 0 {
				if err := w.detour(ctx, tx, key); err != nil {
					return err
				}
			}
			for i := range events {
				ids = append(ids, events[i].ID)
			}
			if err := outboxpgx.Append(ctx, tx, events...); err != nil {
				return err
			}
			if rollback {
				return errChangedMind
			}
			return nil
		})
		switch {
		case errors.Is(err, errChangedMind):
			w.drop(ids...)
		case err != nil:
			return err
		default:
			w.committed.Add(int64(n))
		}
	}
	return nil
}

// detour appends an event inside a savepoint and takes it back.
func (w *workload) detour(ctx context.Context, tx pgx.Tx, key int) error {
	err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error {
		event := version(key, -1)
		w.drop(event.ID)
		if err := outboxpgx.Append(ctx, tx, event); err != nil {
			return err
		}
		return errChangedMind
	})
	if errors.Is(err, errChangedMind) {
		return nil
	}
	return err
}

func nextVersions(ctx context.Context, tx pgx.Tx, key, n int) ([]outbox.Event, error) {
	var last int
	err := tx.QueryRow(ctx, "update versions set version = version + $2 where key = $1 returning version", key, n).Scan(&last)
	if err != nil {
		return nil, err
	}
	events := make([]outbox.Event, n)
	for i := range events {
		events[i] = version(key, last-n+i+1)
	}
	return events, nil
}

func version(key, v int) outbox.Event {
	return outbox.Event{
		ID: outbox.NewID(), AggregateType: "counter", AggregateID: strconv.Itoa(key), Type: "things", Payload: fmt.Appendf(nil, `{"version": %d}`, v),
	}
}

// TestRule1FiftyThousandEventsArriveInCommitOrder is the promise as a whole: what was committed is in the topic once, each key in commit order, and nothing else.
func TestRule1FiftyThousandEventsArriveInCommitOrder(t *testing.T) {
	const writers, want, keys = 8, 50_000, 64
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("seed %d", *seed)
	w := newWhole(t, pgtest.Migrated(t))
	w.exec(t, "create table versions (key int primary key, version int not null)")
	w.exec(t, "insert into versions select n, 0 from generate_series(0, $1 - 1) n", keys)
	r := w.start(t)
	r.await(t, relay.StateStreaming)
	load := &workload{want: want, keys: keys, dropped: make(map[string]bool)}
	began := time.Now()
	var wrote sync.WaitGroup
	for i := range writers {
		wrote.Go(func() {
			if err := load.write(t.Context(), w, rand.New(rand.NewPCG(*seed, uint64(i)))); err != nil {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wrote.Wait()
	written := time.Since(began)
	topic := w.reader(t)
	topic.until(t, int(load.committed.Load()))
	delivered := time.Since(began)
	if err := r.stop(); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
	topic.toEnd(t)
	if again := topic.repeats(); again != 0 {
		t.Errorf("%d events were published again, want none", again)
	}

	rows, err := w.Query(t.Context(), "select id::text from outbox_events order by 1")
	if err != nil {
		t.Fatal(err)
	}
	committed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, 0, len(committed))
	for id := range topic.ids {
		got = append(got, id)
		if load.dropped[id] {
			t.Errorf("event %s was rolled back and published", id)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(committed, got); diff != "" {
		t.Errorf("events in the topic (-committed +published):\n%s", diff)
	}
	lastVersion := make(map[string]int)
	for _, rec := range topic.first {
		lastVersion[string(rec.Key)]++
		if want := fmt.Sprintf(`{"version": %d}`, lastVersion[string(rec.Key)]); string(rec.Value) != want {
			t.Fatalf("key %s: %s at offset %d of partition %d, want %s", rec.Key, rec.Value, rec.Offset, rec.Partition, want)
		}
	}
	t.Logf("seed %d: %d events committed by %d writers in %v, %d rolled back; all in the topic after %v, %d keys in order",
		*seed, len(committed), writers, written.Round(time.Millisecond), len(load.dropped), delivered.Round(time.Millisecond), len(lastVersion))
}
