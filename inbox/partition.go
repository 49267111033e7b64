package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// partition is what is in memory of one assignment. When the assignment ends, so does the partition; a later assignment of the same
// topic and number is another one. So a handler that finishes late touches an object that nobody commits from any more.
type partition struct {
	topic  string
	number int32
	epoch  uint64 // counts the assignments of this process, for logs and metrics
	window Window

	mu      sync.Mutex // protects the fields below, never held while waiting for anything
	tracker tracker
	lanes   map[string]*lane
	keyless *lane                            // of records without a key: they share one lane, hence one order
	running map[*lane]context.CancelFunc     // lanes whose head is with a worker
	full    bool                             // the window was reached, and half of it is not yet free
	stopped bool                             // nothing new starts
	idle    chan struct{}                    // closed when stopped and nothing is running
	end     int64                            // offset after the last committed record in the log, as of the last poll or look
	saved   int64                            // the offset that Kafka acknowledged
	waiting map[*lane]*time.Timer            // lanes that wait for their next attempt
	wake    func(p *partition, lane []*lane) // makes lanes ready again

	turn   turn    // the scheduler's, under its mutex
	paused reasons // the pauser's, under its mutex
}

// lane is the queue of one key. It exists while it has items; its head is the only one that may run.
type lane struct {
	part       *partition
	key        string
	head, tail *item
	nextReady  *lane // the scheduler's
}

// item is a message that is not yet done. Whoever runs the lane owns its head, so its fields need no lock.
type item struct {
	rec         *kgo.Record
	ticket      uint64
	next        *item
	attempts    int // failed runs of the handler
	holds       int // runs that did not count
	firstFailed time.Time
	dead        *deadLetter // set when it was given up
}

func newPartition(topic string, number int32, epoch uint64, window Window, wake func(*partition, []*lane)) *partition {
	return &partition{
		topic: topic, number: number, epoch: epoch, window: window, wake: wake, saved: -1, end: -1,
		lanes: make(map[string]*lane), running: make(map[*lane]context.CancelFunc), waiting: make(map[*lane]*time.Timer),
		idle: make(chan struct{}),
	}
}

func (p *partition) String() string { return fmt.Sprintf("%s/%d", p.topic, p.number) }

// add queues records and appends to ready the lanes that have something to do now and had not before. filled reports that the window is
// full now and was not before. An offset at or below one that was already read is an error: the log was truncated or went back, and what
// was counted as done may not be what is there.
func (p *partition) add(records []*kgo.Record, ready []*lane) (_ []*lane, filled bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return ready, false, nil
	}
	for _, rec := range records {
		ticket, ok := p.tracker.track(slot{offset: rec.Offset, epoch: rec.LeaderEpoch, bytes: size(rec), time: rec.Timestamp.UnixMilli()})
		if !ok {
			return ready, false, fmt.Errorf("%v: offset %d came after offset %d: the topic was truncated or recreated; stop, and find out "+
				"what was lost before you start again", p, rec.Offset, p.tracker.end-1)
		}
		if rec.Attrs.IsControl() { // a transaction's marker: nothing to handle, but the frontier must pass it, or lag would stay at 1
			p.tracker.done(ticket)
			continue
		}
		if l, idle := p.queue(rec, ticket); idle {
			ready = append(ready, l)
		}
	}
	filled = !p.full && (p.tracker.open() >= p.window.Records || p.tracker.bytes >= p.window.Bytes)
	p.full = p.full || filled
	return ready, filled, nil
}

func (p *partition) queue(rec *kgo.Record, ticket uint64) (l *lane, idle bool) {
	it := &item{rec: rec, ticket: ticket}
	if rec.Key == nil {
		l = p.keyless
	} else {
		l = p.lanes[string(rec.Key)]
	}
	if l != nil {
		l.tail.next, l.tail = it, it
		return l, false
	}
	l = &lane{part: p, head: it, tail: it}
	if rec.Key == nil {
		p.keyless = l
	} else {
		l.key = string(rec.Key)
		p.lanes[l.key] = l
	}
	return l, true
}

// begin gives a worker the head of a lane, with a context that ends when the partition is cancelled. ok is false when nothing may start any
// more. Each begin is followed by one settle or one suspend.
func (p *partition) begin(ctx context.Context, l *lane) (_ context.Context, _ *item, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil, nil, false
	}
	ctx, cancel := context.WithCancel(ctx)
	p.running[l] = cancel
	return ctx, l.head, true
}

// settle counts the head of a lane as done. more reports that the lane has another item to run, freed that the full window has room again.
func (p *partition) settle(l *lane) (more, freed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tracker.done(l.head.ticket)
	if l.head = l.head.next; l.head == nil {
		p.remove(l)
	}
	p.ended(l)
	if p.full && p.tracker.open() <= p.window.Records/2 && p.tracker.bytes <= p.window.Bytes/2 {
		p.full, freed = false, true
	}
	return l.head != nil && !p.stopped, freed
}

func (p *partition) remove(l *lane) {
	if l == p.keyless {
		p.keyless = nil
		return
	}
	delete(p.lanes, l.key)
}

// suspend takes the head of a lane back unfinished. With a wait above zero the lane becomes ready after it. ok is false when the partition
// was stopped meanwhile: then the item stays where it is, to be delivered again after the rebalance or the restart.
func (p *partition) suspend(l *lane, wait time.Duration) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended(l)
	if p.stopped {
		return false
	}
	if wait > 0 {
		p.waiting[l] = time.AfterFunc(wait, func() { p.resume(l) })
	}
	return true
}

// yield takes the head of a lane back, to be run at once. ok is false when the partition was stopped meanwhile: then whoever has it keeps it.
func (p *partition) yield(l *lane) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	p.ended(l)
	return true
}

func (p *partition) isStopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped
}

// ended is called with the mutex held.
func (p *partition) ended(l *lane) {
	p.running[l]()
	delete(p.running, l)
	if p.stopped && len(p.running) == 0 {
		close(p.idle)
	}
}

func (p *partition) resume(l *lane) {
	p.mu.Lock()
	_, waits := p.waiting[l]
	delete(p.waiting, l)
	p.mu.Unlock()
	if waits {
		p.wake(p, []*lane{l})
	}
}

// stop lets nothing more begin and drops what waits. The channel is closed when nothing is running any more. It may be called again.
func (p *partition) stop() (idle <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return p.idle
	}
	p.stopped = true
	for l, timer := range p.waiting {
		timer.Stop()
		delete(p.waiting, l)
	}
	if len(p.running) == 0 {
		close(p.idle)
	}
	return p.idle
}

// cancel ends the contexts of what is still running and says how many there were.
func (p *partition) cancel() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cancel := range p.running {
		cancel()
	}
	return len(p.running)
}

// uncommitted is the frontier, if Kafka does not have it yet.
func (p *partition) uncommitted() (kgo.EpochOffset, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	offset, epoch, ok := p.tracker.frontier()
	return kgo.EpochOffset{Epoch: epoch, Offset: offset}, ok && offset > p.saved
}

// committed notes an offset that Kafka acknowledged.
func (p *partition) committed(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.saved = max(p.saved, offset)
}

// saw notes where the log ends.
func (p *partition) saw(end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end = max(p.end, end)
}

// lag is the state of the frontier; known is false while nothing was fetched.
func (p *partition) lag(now time.Time) (_ Lag, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	frontier, _, _ := p.tracker.frontier()
	lag := Lag{Topic: p.topic, Partition: p.number, Gap: p.tracker.gap(), Open: p.tracker.open(), Fill: p.fill()}
	known = p.tracker.next > 0
	if known {
		lag.Records = max(0, p.end-frontier)
	}
	if milli, ok := p.tracker.oldest(); ok {
		lag.Oldest = max(0, now.Sub(time.UnixMilli(milli)))
	}
	return lag, known
}

func (p *partition) fill() float64 {
	return max(float64(p.tracker.open())/float64(p.window.Records), float64(p.tracker.bytes)/float64(p.window.Bytes))
}

// reasons are why the partition should not be read now.
func (p *partition) reasons(shut bool) (set reasons) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return 0
	}
	if p.full {
		set |= windowFull
	}
	if shut {
		set |= databaseOut
	}
	return set
}

func size(rec *kgo.Record) int32 {
	n := len(rec.Key) + len(rec.Value)
	for _, h := range rec.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return int32(n)
}

// jitter is a random number in [0, 1).
func jitter() float64 { return rand.Float64() }
