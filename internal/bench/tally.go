package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
)

const (
	payloadBytes = 427  // of every event
	keys         = 1024 // aggregates; event number n belongs to number n modulo keys
)

// stallLimit is how long nothing may come before what has not come counts as lost.
const stallLimit = 60 * time.Second

// askPeriod is how long nothing may come before the contestant is asked whether it still works.
const askPeriod = 5 * time.Second

// tally accounts for the events of one lane. An event's id ends with its number, from 1; what is before it is the lane's own.
// Its methods are safe for concurrent use.
type tally struct {
	prefix  string
	began   time.Time     // times are kept as distance from it
	changed chan struct{} // gets a token whenever something has come

	mu         sync.Mutex      // protects all below
	first      time.Time       // of the first fetch
	firstFetch int             // events in it
	latest     time.Time       // when the last new event came
	seen       []time.Duration // by number: first arrival; 0 when it has not come
	last       [keys]int       // by key: the highest number that has come
	distinct   int
	doubled    int
	disordered int
	foreign    int
}

// arrival is what is looked at of a record.
type arrival struct {
	id    []byte
	bytes int
}

// newTally expects events with the numbers 1 to most.
func newTally(prefix string, most int) *tally {
	return &tally{prefix: prefix, began: time.Now(), changed: make(chan struct{}, 1), seen: make([]time.Duration, most+1)}
}

// add counts what one fetch brought. It reports whether it was the first that brought anything.
func (t *tally) add(now time.Time, arrivals []arrival) bool {
	if len(arrivals) == 0 {
		return false
	}
	at := now.Sub(t.began)
	t.mu.Lock()
	opening := t.first.IsZero()
	for _, a := range arrivals {
		t.count(at, a)
	}
	if opening {
		t.first, t.firstFetch = now, t.distinct
	}
	t.latest = now
	t.mu.Unlock()
	select {
	case t.changed <- struct{}{}:
	default: // a token is there already
	}
	return opening
}

// count is called with mu held.
func (t *tally) count(at time.Duration, a arrival) {
	n := t.number(a.id)
	if n < 1 || n >= len(t.seen) || a.bytes != payloadBytes {
		t.foreign++
		return
	}
	if t.seen[n] != 0 {
		t.doubled++
		return
	}
	t.seen[n] = max(at, 1)
	t.distinct++
	last := &t.last[n%keys]
	if n < *last {
		t.disordered++
	}
	*last = max(*last, n)
}

// number is that of an event of this lane, else 0.
func (t *tally) number(id []byte) int {
	digits, ours := bytes.CutPrefix(id, []byte(t.prefix))
	if !ours || len(digits) != 12 {
		return 0
	}
	n, err := strconv.ParseInt(string(digits), 16, 64)
	if err != nil {
		return 0
	}
	return int(n)
}

func (t *tally) arrived() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.distinct
}

// await returns when n different events have come. When nothing comes it asks now and then for trouble and returns that; when nothing comes for the limit
// and there is no trouble, it returns nil: the count will tell.
func (t *tally) await(ctx context.Context, n int, limit time.Duration, trouble func(context.Context) error) error {
	ask := time.NewTicker(min(limit, askPeriod))
	defer ask.Stop()
	for quiet := time.Duration(0); t.arrived() < n; {
		select {
		case <-t.changed:
			quiet = 0
			ask.Reset(min(limit, askPeriod))
		case <-ask.C:
			quiet += min(limit, askPeriod)
			if err := trouble(ctx); err != nil {
				return fmt.Errorf("nothing comes, %d of %d events are there: %w", t.arrived(), n, err)
			}
			if quiet >= limit {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// result is the count when the events 1 to written were written.
func (t *tally) result(written int) Count {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := Count{Written: written, Doubled: t.doubled, Disordered: t.disordered, Foreign: t.foreign}
	for n, at := range t.seen[1:] {
		switch {
		case at == 0 && n < written:
			c.Lost++
		case at != 0 && n < written:
			c.Seen++
		case at != 0:
			c.Foreign++
		}
	}
	return c
}

// fault is what no measurement may have; nil when the count has none.
func (c Count) fault() error {
	if c.Lost == 0 && c.Disordered == 0 && c.Foreign == 0 {
		return nil
	}
	return fmt.Errorf("of %d events %d were lost, %d came behind a later one of their key, %d records were not what was written",
		c.Written, c.Lost, c.Disordered, c.Foreign)
}
