package relay_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// forgetful is a Source whose streams break after a while, and that does not pass on what is confirmed: as if the process died between the commit
// in Kafka and the confirmation to PostgreSQL, each time.
type forgetful struct {
	relay.Source
	after   int          // batches until a stream breaks
	breaks  atomic.Int64 // how many more do
	resumed atomic.Int64 // streams that were opened
}

func (f *forgetful) Open(ctx context.Context) (relay.Stream, error) {
	s, err := f.Source.Open(ctx)
	if err != nil {
		return nil, err
	}
	f.resumed.Add(1)
	return &forgetfulStream{Stream: s, from: f, left: f.after}, nil
}

type forgetfulStream struct {
	relay.Stream
	from *forgetful
	left int
}

func (s *forgetfulStream) Next(ctx context.Context) (relay.Batch, error) {
	b, err := s.Stream.Next(ctx)
	if len(b.Events) > 0 {
		if s.left--; s.left < 0 && s.from.breaks.Add(-1) >= 0 {
			return relay.Batch{}, errInjected
		}
	}
	return b, err
}

func (s *forgetfulStream) Confirm(end relay.LSN) {
	if s.from.breaks.Load() <= 0 {
		s.Stream.Confirm(end)
	}
}

func (w *whole) pgSource(t testing.TB, change func(*pgwal.Config)) *pgwal.Source {
	t.Helper()
	cfg := pgwal.Config{URL: w.url, Slot: w.slot, SenderTimeout: 3 * time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&cfg)
	}
	source, err := pgwal.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// committedOnce waits until a consumer of committed records has seen n events, and fails for each that came more than once.
func (w *whole) committedOnce(t testing.TB, n int) *topicReader {
	t.Helper()
	r := w.reader(t)
	r.until(t, n)
	if again := r.repeats(); again != 0 || len(r.ids) != n {
		t.Errorf("topic has %d different events and %d repeats, want %d and none", len(r.ids), again, n)
	}
	return r
}

func TestRule2ACrashBetweenCommitAndConfirmationDoublesNothing(t *testing.T) {
	t.Parallel()
	w := newWhole(t, pgtest.Migrated(t))
	source := &forgetful{Source: w.pgSource(t, func(c *pgwal.Config) { c.BatchEvents = 50 }), after: 3}
	source.breaks.Store(8)
	w.startFrom(t, source).await(t, relay.StateStreaming)
	w.insertRange(t, 1, 1000)
	// One transaction that is larger than a batch, between which the relay may die too.
	w.exec(t, `insert into outbox_events (id, aggregate_id, event_type, payload)
		select gen_random_uuid(), n::text, 'things', '{}' from generate_series(1001, 2000) n`)
	w.insertRange(t, 2001, 2100)
	w.committedOnce(t, 2100)
	if n := source.resumed.Load(); n < 9 {
		t.Errorf("stream was opened %d times, want 9", n)
	}
	end := w.currentLSN(t)
	eventually(t, "everything to be confirmed", func() bool { return w.confirmed(t) >= end })
	w.committedOnce(t, 2100)
}

func TestRule2AServerCrashThatTakesTheSlotBackDoublesNothing(t *testing.T) {
	t.Parallel()
	srv := pgtest.StartServer(t)
	w := newWhole(t, srv.Migrated(t))
	seen := &skips{}
	r := w.startFrom(t, &observed{Source: w.pgSource(t, nil), skips: seen})
	r.await(t, relay.StateStreaming)
	const each = 300
	for round := range 3 {
		w.insertRange(t, round*each+1, (round+1)*each)
		w.committedOnce(t, (round+1)*each)
		srv.Kill9(t)
		srv.Start(t)
		r.await(t, relay.StateStreaming)
		w.Reset() // its connections are gone
	}
	w.insertRange(t, 3*each+1, 3*each+10)
	w.committedOnce(t, 3*each+10)
	if seen.again.Load() == 0 {
		t.Error("the server sent no event again after its crashes: this test has tested nothing")
	}
	t.Logf("counts: %d events were sent again after three crashes, none was published again", seen.again.Load())
}

// skips counts events that a source hands out again.
type skips struct {
	last  relay.Position
	again atomic.Int64
}

// observed is a Source that counts what it hands out again.
type observed struct {
	relay.Source
	skips *skips
}

func (o *observed) Open(ctx context.Context) (relay.Stream, error) {
	s, err := o.Source.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &observedStream{Stream: s, skips: o.skips}, nil
}

type observedStream struct {
	relay.Stream
	skips *skips
}

func (s *observedStream) Next(ctx context.Context) (relay.Batch, error) {
	b, err := s.Stream.Next(ctx)
	for i := range b.Events {
		if p := b.Events[i].Position; p.Compare(s.skips.last) <= 0 {
			s.skips.again.Add(1)
		} else {
			s.skips.last = p
		}
	}
	return b, err
}

func TestExactlyOnceWaitsForItsFirstBrokerAndThenBegins(t *testing.T) {
	t.Parallel()
	w := newWhole(t, pgtest.Migrated(t))
	away := w.broker.Fault(kfake.Fault{Count: -1})
	r := w.start(t)
	r.await(t, relay.StateRetrying)
	w.insertRange(t, 1, 10) // the slot is there already, or these would be behind it
	r.await(t, relay.StateRetrying)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = w.start(t) // as another process, which finds a slot that it did not make
	r.await(t, relay.StateRetrying)
	away.Remove()
	r.await(t, relay.StateStreaming)
	w.insertRange(t, 11, 20)
	w.committedOnce(t, 20)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.start(t).await(t, relay.StateStreaming)
	w.insertRange(t, 21, 30)
	w.committedOnce(t, 30)
}

func TestExactlyOnceHaltsWhenTheSlotWasUsedWithoutAWatermark(t *testing.T) {
	t.Parallel()
	w := newWhole(t, pgtest.Migrated(t))
	w.delivery = relay.AtLeastOnce
	atLeastOnce := w.start(t)
	atLeastOnce.await(t, relay.StateStreaming)
	w.insertRange(t, 1, 10)
	w.wantAll(t, 10)
	begin := w.confirmed(t)
	eventually(t, "the slot to move", func() bool { return w.confirmed(t) > begin })
	if err := atLeastOnce.stop(); err != nil {
		t.Fatal(err)
	}
	w.delivery = relay.ExactlyOnce
	r := w.start(t)
	r.await(t, relay.StateHalted)
	var halt *relay.HaltError
	if err := r.stop(); !errors.As(err, &halt) || halt.Cause != relay.WatermarkUnusable {
		t.Errorf("Run = %v, want a halt for want of a watermark", err)
	}
}
