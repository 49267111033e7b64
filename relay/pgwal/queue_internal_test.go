package pgwal

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walpost/walpost/relay"
)

var errOver = errors.New("over")

func smallQueue() (*queue, *atomic.Int64) {
	total := new(atomic.Int64)
	return newQueue(Config{QueueBytes: 100, BatchBytes: 50, BatchEvents: 10}, total), total
}

func part(bytes int64, end relay.LSN) batch {
	return batch{events: make([]relay.Event, 1), bytes: bytes, end: end}
}

func TestAFullQueueHoldsTheReceiverBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, total := smallQueue()
		q.put(part(60, 1))
		q.put(part(40, 2))
		entered := false
		go func() { q.put(part(1, 3)); entered = true }()
		synctest.Wait()
		if entered || !q.full.Load() {
			t.Error("put beyond the limit did not wait")
		}
		if b, err := q.next(t.Context()); err != nil || b.end != 1 {
			t.Errorf("next = %v, %v, want the first batch", b.end, err)
		}
		synctest.Wait()
		if entered {
			t.Error("put did not wait for the batch that is still being published")
		}
		if b, err := q.next(t.Context()); err != nil || b.end != 2 {
			t.Errorf("next = %v, %v, want the second batch", b.end, err)
		}
		synctest.Wait()
		if !entered || q.full.Load() {
			t.Error("put still waits although a batch has been published")
		}
		if got := total.Load(); got != 41 {
			t.Errorf("bytes in the queue = %d, want 41", got)
		}
	})
}

func TestEventsGatherUntilABatchIsFullOrTheTimeIsOver(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	for name, tc := range map[string]struct {
		meanwhile func(*queue)
		early     bool
	}{
		"nothing comes":                 {func(*queue) {}, false},
		"a batch that may grow":         {func(q *queue) { q.put(part(10, 1)); q.put(part(10, 2)) }, false},
		"a batch that may grow no more": {func(q *queue) { q.put(part(30, 1)); q.put(part(30, 2)) }, true},
		"no room for more":              {func(q *queue) { q.put(part(40, 1)); go q.put(part(90, 2)) }, true},
		"the end":                       {func(q *queue) { q.fail(errOver) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, _ := smallQueue()
				began := time.Now()
				done := make(chan time.Duration)
				go func() { q.gather(t.Context(), began.Add(limit)); done <- time.Since(began) }()
				synctest.Wait()
				tc.meanwhile(q)
				if took := <-done; (took < limit) != tc.early {
					t.Errorf("gather took %v of %v, want it to end early: %t", took, limit, tc.early)
				}
				q.fail(errOver)
			})
		})
	}
}

func TestABatchSaysWhenItsFirstEventWasCommitted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, _ := smallQueue()
		q.advance(1) // no event
		first := part(1, 2)
		first.lag = time.Second
		q.put(first)
		want := time.Now().Add(-time.Second)
		<-time.After(time.Minute)
		q.put(part(1, 3))
		if b, err := q.next(t.Context()); err != nil || len(b.events) != 2 || !b.since.Equal(want) {
			t.Errorf("next = %d events since %v, %v, want 2 since %v", len(b.events), b.since, err, want)
		}
	})
}

func TestAnEventLargerThanTheQueueGoesThroughAlone(t *testing.T) {
	t.Parallel()
	q, _ := smallQueue()
	if !q.tryPut(part(1000, 1)) {
		t.Error("put of a large event into an empty queue waits")
	}
	if q.tryPut(part(1, 2)) {
		t.Error("put behind it does not wait")
	}
}

func TestPartsOfATransactionStayApart(t *testing.T) {
	t.Parallel()
	q, _ := smallQueue()
	q.advance(5)
	q.put(part(1, 0))
	q.put(part(1, 9))
	q.put(part(1, 12))
	for _, want := range []relay.LSN{5, 0, 12} {
		if b, err := q.next(t.Context()); err != nil || b.end != want {
			t.Errorf("next ends at %s, %v, want %s", b.end, err, want)
		}
	}
}

func TestNextWaitsForABatchOrTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, _ := smallQueue()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go func() { time.AfterFunc(time.Millisecond, func() { q.advance(7) }) }()
		if b, err := q.next(ctx); err != nil || b.end != 7 {
			t.Errorf("next = %v, %v, want a batch that ends at 7", b.end, err)
		}
		if _, err := q.next(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("next = %v, want context.DeadlineExceeded", err)
		}
	})
}

func TestAQueueEndsBehindWhatItHoldsOrAtOnce(t *testing.T) {
	t.Parallel()
	q, _ := smallQueue()
	q.put(part(10, 1))
	q.finish(errOver)
	if b, err := q.next(t.Context()); err != nil || b.end != 1 {
		t.Errorf("next after finish = %v, %v, want what was queued", b.end, err)
	}
	if _, err := q.next(t.Context()); !errors.Is(err, errOver) {
		t.Errorf("next = %v, want the error of finish", err)
	}

	q, total := smallQueue()
	q.put(part(10, 1))
	q.fail(errOver)
	q.fail(errShort)
	if _, err := q.next(t.Context()); !errors.Is(err, errOver) {
		t.Errorf("next after fail = %v, want the first error", err)
	}
	if q.put(part(10, 2)) {
		t.Error("put after fail = true, want false")
	}
	q.advance(9)
	if got := total.Load(); got != 0 {
		t.Errorf("bytes in a failed queue = %d, want 0", got)
	}
	if b, err := q.next(t.Context()); !errors.Is(err, errOver) {
		t.Errorf("next of a failed queue that was advanced = %v, %v, want the error of fail", b.end, err)
	}
}

func TestWhatIsLostOnTheWayToAnEndChangesNothing(t *testing.T) {
	t.Parallel()
	q, _ := smallQueue()
	q.put(part(10, 1))
	q.finish(errOver)
	q.lose(errShort)
	q.advance(9)
	if b, err := q.next(t.Context()); err != nil || b.end != 1 {
		t.Errorf("next after finish and lose = %v, %v, want what was queued", b.end, err)
	}
	if _, err := q.next(t.Context()); !errors.Is(err, errOver) {
		t.Errorf("next = %v, want the error of finish", err)
	}

	q, total := smallQueue()
	q.put(part(10, 1))
	q.lose(errOver)
	q.finish(errShort)
	if b, err := q.next(t.Context()); !errors.Is(err, errOver) || total.Load() != 0 {
		t.Errorf("next after lose = %v, %v with %d bytes queued, want its error and nothing else", b.end, err, total.Load())
	}

	q, total = smallQueue()
	q.put(part(10, 1))
	q.finish(errOver)
	q.fail(errShort)
	if b, err := q.next(t.Context()); !errors.Is(err, errShort) || total.Load() != 0 {
		t.Errorf("next after finish and fail = %v, %v with %d bytes queued, want the error of fail and nothing else", b.end, err, total.Load())
	}
}

func TestFailWakesWhoeverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, _ := smallQueue()
		go func() {
			if _, err := q.next(t.Context()); !errors.Is(err, errOver) {
				t.Errorf("next = %v, want the error of fail", err)
			}
		}()
		synctest.Wait()
		q.fail(errOver)
		synctest.Wait()

		q, _ = smallQueue()
		q.put(part(100, 1))
		go func() {
			if q.put(part(1, 2)) {
				t.Error("put = true, want false")
			}
		}()
		synctest.Wait()
		q.fail(errOver)

		q, _ = smallQueue()
		q.put(part(100, 1))
		refused := false
		go func() { refused = !q.put(part(1, 2)) }()
		synctest.Wait()
		q.finish(errOver)
		synctest.Wait()
		if !refused {
			t.Error("put waits for room in a queue that has ended")
		}
	})
}

func TestABatchGrowsInTheRoomOfOneThatWasLetGo(t *testing.T) {
	t.Parallel()
	q := newQueue(Config{QueueBytes: 1 << 20, BatchBytes: 1 << 19, BatchEvents: 1000}, new(atomic.Int64))
	next := func(end relay.LSN) (first *relay.Event) {
		for range 100 {
			q.put(part(1, end))
		}
		b, err := q.next(t.Context())
		if err != nil || len(b.events) != 100 {
			t.Fatalf("next = %d events, %v, want 100", len(b.events), err)
		}
		return &b.events[0]
	}
	room := next(1)
	if next(2) == room {
		t.Error("the second batch has the room of the first, which is still in use")
	}
	if next(3) != room {
		t.Error("the third batch has room of its own, want that of the first, which has been let go")
	}
}
