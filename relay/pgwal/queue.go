package pgwal

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walpost/walpost/relay"
)

// queue carries batches from the goroutine that receives to the one that publishes. It is full when its bytes, those of the batch handed out
// last included, exceed the limit; then put waits, and with it the connection.
//
// A batch in the queue grows while it waits, so that batches are small when events are few and large behind a slow sink. It never ends inside
// a transaction unless the transaction alone is larger than a batch.
type queue struct {
	limit     int64
	maxBytes  int64
	maxEvents int
	total     *atomic.Int64 // mirrors bytes, for whoever watches

	full  atomic.Bool   // put waits for room
	ready chan struct{} // capacity 1: there may be something for next
	ripe  chan struct{} // capacity 1: there may be a batch that cannot grow
	space chan struct{} // capacity 1: there may be room for put
	ended chan struct{} // closed with the first error: put takes nothing any more

	mu     sync.Mutex // guards what follows
	queued []batch
	bytes  int64         // queued and handed out
	handed batch         // handed out last
	spare  []relay.Event // room for the next batch's, which was one's before
	err    error         // why the queue ends, behind what is queued
	failed bool          // what was queued has been dropped
}

type batch struct {
	events []relay.Event
	bytes  int64
	end    relay.LSN     // zero: inside a transaction
	lag    time.Duration // how old the first event was when the server sent it; zero: unknown, or there is no event
	since  time.Time     // when it was committed, by our clock; set in the queue
}

func newQueue(cfg Config, total *atomic.Int64) *queue {
	return &queue{
		limit: cfg.QueueBytes, maxBytes: cfg.BatchBytes, maxEvents: cfg.BatchEvents, total: total,
		ready: make(chan struct{}, 1), ripe: make(chan struct{}, 1), space: make(chan struct{}, 1), ended: make(chan struct{}),
	}
}

// put adds a copy of b. It waits for room, and returns false when the queue has ended.
func (q *queue) put(b batch) bool {
	defer q.full.Store(false)
	for !q.tryPut(b) {
		q.full.Store(true)
		signal(q.ripe)
		select {
		case <-q.space:
		case <-q.ended:
			return false
		}
	}
	return true
}

func (q *queue) tryPut(b batch) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil || q.bytes > 0 && q.bytes+b.bytes > q.limit {
		return false
	}
	q.add(b.bytes)
	if last := q.last(); last != nil && q.joins(last, b) {
		if len(last.events) == 0 {
			last.since = sinceOf(b)
		}
		last.events, last.bytes, last.end = append(last.events, b.events...), last.bytes+b.bytes, b.end
	} else {
		b.events, b.since = append(q.spare, b.events...), sinceOf(b)
		q.spare = nil
		if q.queued = append(q.queued, b); len(q.queued) > 1 {
			signal(q.ripe)
		}
	}
	signal(q.ready)
	return true
}

func sinceOf(b batch) time.Time { return time.Now().Add(-b.lag) }

// joins reports whether b may become part of last: both whole transactions, and within the size of a batch.
func (q *queue) joins(last *batch, b batch) bool {
	return last.end != 0 && b.end != 0 && last.bytes+b.bytes <= q.maxBytes && len(last.events)+len(b.events) <= q.maxEvents
}

// advance moves the end of what is queued, because the server has sent everything up to end. It never waits.
func (q *queue) advance(end relay.LSN) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return
	}
	if last := q.last(); last != nil {
		last.end = max(last.end, end)
		return
	}
	q.queued = append(q.queued, batch{end: end})
	signal(q.ready)
}

func (q *queue) last() *batch {
	if len(q.queued) == 0 {
		return nil
	}
	return &q.queued[len(q.queued)-1]
}

// gather waits until the first batch cannot grow any more, or until then.
func (q *queue) gather(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	for !q.isRipe() {
		select {
		case <-q.ripe:
		case <-q.ended:
			return
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (q *queue) isRipe() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queued) > 1 || q.full.Load()
}

// next waits for a batch. It lets go of the batch before.
func (q *queue) next(ctx context.Context) (batch, error) {
	for {
		b, ok, err := q.tryNext()
		if ok || err != nil {
			return b, err
		}
		select {
		case <-q.ready:
		case <-q.ended:
		case <-ctx.Done():
			return batch{}, ctx.Err()
		}
	}
}

func (q *queue) tryNext() (b batch, ok bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.letGo()
	if len(q.queued) == 0 {
		return batch{}, false, q.err
	}
	b = q.queued[0]
	q.queued[0] = batch{}
	if q.queued = q.queued[1:]; len(q.queued) == 0 {
		q.queued = nil
	}
	q.handed = b
	return b, true, nil
}

// letGo ends the use of the batch handed out last; it is called with the mutex held. The batch's slice is used again: one that grows event by event makes
// several times its size of garbage.
func (q *queue) letGo() {
	q.add(-q.handed.bytes)
	if cap(q.handed.events) > cap(q.spare) {
		clear(q.handed.events)
		q.spare = q.handed.events[:0]
	}
	q.handed = batch{}
}

// add is called with the mutex held.
func (q *queue) add(n int64) {
	if n == 0 {
		return
	}
	q.bytes += n
	q.total.Add(n)
	if n < 0 {
		signal(q.space)
	}
}

// finish ends the queue behind what is in it: what was committed before the cause is still published.
func (q *queue) finish(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.end(err)
}

// lose ends the queue at once and drops what is in it, unless it has ended already: a cause found before counts more than the connection that
// was lost on the way there.
func (q *queue) lose(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.end(err) {
		q.drop()
	}
}

// fail ends the queue at once, whatever ended it before, and drops what is in it.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed {
		return
	}
	q.end(err)
	q.err = err
	q.drop()
}

// end is called with the mutex held. It returns false when the queue has ended before.
func (q *queue) end(err error) bool {
	if q.err != nil {
		return false
	}
	q.err = err
	close(q.ended)
	return true
}

// drop is called with the mutex held.
func (q *queue) drop() {
	q.queued, q.handed, q.failed = nil, batch{}, true
	q.add(-q.bytes)
}

// signal wakes whoever waits on c, now or later.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
