package relay_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
	"github.com/walpost/walpost/relay/pgwal"
)

// keeperSink is a script whose publisher keeps the watermark, and which wants to be prepared.
type keeperSink struct {
	scriptSink
	prepare func() error
	marks   []relay.Watermark // one a Publish
	at      []time.Time
}

func (s *keeperSink) Prepare(context.Context) error {
	if s.prepare != nil {
		return s.prepare()
	}
	return nil
}

func (s *keeperSink) Open(context.Context, relay.Origin) (relay.Publisher, relay.Watermark, error) {
	return keeper{scriptPublisher(s.scriptSink), s}, s.watermark, nil
}

type keeper struct {
	scriptPublisher
	sink *keeperSink
}

func (k keeper) Delivery() relay.Delivery    { return relay.ExactlyOnce }
func (k keeper) IdleInterval() time.Duration { return time.Second }

func (k keeper) Publish(ctx context.Context, events []relay.Event, w relay.Watermark) error {
	k.sink.marks, k.sink.at = append(k.sink.marks, w), append(k.sink.at, time.Now())
	return k.scriptPublisher.Publish(ctx, events, w)
}

type deliveries struct {
	recorder
	seen []relay.Delivery
}

func (d *deliveries) Delivering(v relay.Delivery) { d.seen = append(d.seen, v) }

func TestPositionsAloneAreHeldBackForAKeeperAndConfirmedAllTheSame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := &script{origin: relay.Origin{SystemID: "1", Timeline: 3, Slot: "s"}, next: batches(
			relay.Batch{End: 11}, // at once: nothing was published lately
			relay.Batch{End: 12}, relay.Batch{End: 13},
			relay.Batch{Events: []relay.Event{event(20, 0)}}, // takes the position before it along
			relay.Batch{Events: []relay.Event{event(20, 1)}, End: 22},
			relay.Batch{End: 23}, relay.Batch{End: 24}, // nothing comes behind it
		)}
		sink := &keeperSink{scriptSink: scriptSink{s}}
		seen := &deliveries{}
		r, err := relay.New(s, sink, relay.Config{Observer: seen})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := r.Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if diff := cmp.Diff([]relay.LSN{11, 22, 24}, s.confirmed); diff != "" {
			t.Errorf("confirmed (-want +got):\n%s", diff)
		}
		want := []relay.Watermark{
			{Timeline: 3, End: 11},
			{Timeline: 3, Position: relay.Position{Commit: 20}, EventID: "0/14#0", End: 11},
			{Timeline: 3, Position: relay.Position{Commit: 20, Index: 1}, EventID: "0/14#1", End: 22},
			{Timeline: 3, Position: relay.Position{Commit: 20, Index: 1}, EventID: "0/14#1", End: 24},
		}
		if diff := cmp.Diff(want, sink.marks); diff != "" {
			t.Errorf("watermarks (-want +got):\n%s", diff)
		}
		if n := len(sink.at); n > 0 && sink.at[n-1].Sub(began) != time.Second {
			t.Errorf("the last position was held back for %v, want 1 s", sink.at[n-1].Sub(began))
		}
		if diff := cmp.Diff([]relay.Delivery{relay.ExactlyOnce}, seen.seen); diff != "" {
			t.Errorf("deliveries observed (-want +got):\n%s", diff)
		}
	})
}

func TestTheSourceIsNotOpenedBeforeTheSinkIsPrepared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := &script{}
		tries := 0
		sink := &keeperSink{scriptSink: scriptSink{s}, prepare: func() error {
			if tries++; tries <= 3 {
				return errInjected
			}
			return nil
		}}
		s.open = func(int) error {
			if tries != 4 {
				t.Errorf("source was opened after %d attempts to prepare the sink, want 4", tries)
			}
			return nil
		}
		r, err := relay.New(s, sink, relay.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(ctx); err != nil || s.opened != 1 {
			t.Errorf("Run = %v with %d opened sources, want nil with one", err, s.opened)
		}
	})
}

func TestAWatermarkThatDoesNotFitTheLogHalts(t *testing.T) {
	t.Parallel()
	mark := relay.Watermark{Timeline: 2, Position: relay.Position{Commit: 20, Index: 1}, EventID: "0/14#1", End: 22}
	origin := relay.Origin{SystemID: "1", Timeline: 2, Slot: "s", Confirmed: 10}
	changed := func(change func(*relay.Origin)) relay.Origin {
		o := origin
		change(&o)
		return o
	}
	other := event(30, 0)
	other.Position = mark.Position
	for name, tc := range map[string]struct {
		script script
		want   relay.Cause
		says   string
	}{
		"another timeline": {
			script: script{origin: changed(func(o *relay.Origin) { o.Timeline = 3 })}, want: relay.IdentityChanged, says: "a standby was promoted",
		},
		"a new slot": {
			script: script{origin: changed(func(o *relay.Origin) { o.Confirmed, o.Fresh = 30, true })}, want: relay.SlotMissing, says: "slot s is new",
		},
		"a slot that was moved": {
			script: script{origin: changed(func(o *relay.Origin) { o.Confirmed = 30 })}, want: relay.SlotMoved, says: "walpost slot adopt",
		},
		"another event at the watermark": {
			script: script{origin: origin, next: batches(relay.Batch{Events: []relay.Event{event(20, 0), other, event(20, 2)}, End: 22})},
			want:   relay.IdentityChanged, says: "this is another log",
		},
		"a log without the event at the watermark": {
			script: script{origin: origin, next: batches(relay.Batch{Events: []relay.Event{event(20, 0)}, End: 22}, relay.Batch{Events: []relay.Event{event(30, 0)}, End: 32})},
			want:   relay.IdentityChanged, says: "the log has none now",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tc.script.watermark = mark
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err := newRelay(t, &tc.script, relay.Config{BackoffMin: time.Nanosecond}).Run(ctx)
			var halt *relay.HaltError
			if !errors.As(err, &halt) || halt.Cause != tc.want || halt.Hint == "" || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Run = %v, want a halt of cause %v that says %q", err, tc.want, tc.says)
			}
			if len(tc.script.published) != 0 || len(tc.script.confirmed) > 1 {
				t.Errorf("published %v and confirmed %v, want nothing published", tc.script.published, tc.script.confirmed)
			}
		})
	}
}

func TestASlotBehindTheWatermarkNeedsNoEventThatWasConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := &script{
			watermark: relay.Watermark{Timeline: 1, Position: relay.Position{Commit: 20}, EventID: "0/14#0", End: 40},
			origin:    relay.Origin{SystemID: "1", Timeline: 1, Slot: "s", Confirmed: 22}, // behind the event, before the last idle position
			next:      batches(relay.Batch{Events: []relay.Event{event(50, 0)}, End: 52}),
		}
		if err := newRelay(t, s, relay.Config{}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if diff := cmp.Diff([]relay.Position{{Commit: 50}}, s.published); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	})
}

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

// startExactly runs a relay that delivers exactly once from the source, until the test ends.
func (w *whole) startExactly(t testing.TB, source relay.Source) *running {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	sink, err := kafkasink.New(kafkasink.Config{Brokers: w.broker.Brokers, Delivery: relay.ExactlyOnce, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	return w.run(t, source, sink)
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
	start := kgo.NewOffset().AtStart()
	r := &topicReader{
		client: w.broker.Client(t, kgo.ConsumeTopics("things"), kgo.ConsumeStartOffset(start), kgo.ConsumeResetOffset(start), kgo.FetchIsolationLevel(kgo.ReadCommitted())),
		ids:    make(map[string]int),
	}
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
	w.startExactly(t, source).await(t, relay.StateStreaming)
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
	r := w.startExactly(t, &observed{Source: w.pgSource(t, nil), skips: seen})
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
	r := w.startExactly(t, w.pgSource(t, nil))
	r.await(t, relay.StateRetrying)
	w.insertRange(t, 1, 10) // the slot is there already, or these would be behind it
	r.await(t, relay.StateRetrying)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = w.startExactly(t, w.pgSource(t, nil)) // as another process, which finds a slot that it did not make
	r.await(t, relay.StateRetrying)
	away.Remove()
	r.await(t, relay.StateStreaming)
	w.insertRange(t, 11, 20)
	w.committedOnce(t, 20)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.startExactly(t, w.pgSource(t, nil)).await(t, relay.StateStreaming)
	w.insertRange(t, 21, 30)
	w.committedOnce(t, 30)
}

func TestExactlyOnceHaltsWhenTheSlotWasUsedWithoutAWatermark(t *testing.T) {
	t.Parallel()
	w := newWhole(t, pgtest.Migrated(t))
	atLeastOnce := w.start(t)
	atLeastOnce.await(t, relay.StateStreaming)
	w.insertRange(t, 1, 10)
	w.wantAll(t, 10)
	begin := w.confirmed(t)
	eventually(t, "the slot to move", func() bool { return w.confirmed(t) > begin })
	if err := atLeastOnce.stop(); err != nil {
		t.Fatal(err)
	}
	r := w.startExactly(t, w.pgSource(t, nil))
	r.await(t, relay.StateHalted)
	var halt *relay.HaltError
	if err := r.stop(); !errors.As(err, &halt) || halt.Cause != relay.WatermarkUnusable {
		t.Errorf("Run = %v, want a halt for want of a watermark", err)
	}
}
