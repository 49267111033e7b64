package chaos

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// consumer reads committed records along with the run, and notices at once what only a flaw can explain, so that the run can end.
type consumer struct {
	client *kgo.Client
	done   chan struct{} // closed when it has ended
	stop   context.CancelFunc

	mu       sync.Mutex // guards what follows
	seen     []Record
	versions map[string]int64
	doubt    bool
	moved    chan struct{} // closed and replaced with each fetch
}

func (w *World) consume(ctx context.Context, topics []string) (*consumer, error) {
	start := kgo.NewOffset().AtStart()
	client, err := kgo.NewClient(append(directly(w.broker.Addr()), kgo.ConsumeTopics(topics...), kgo.ConsumeStartOffset(start), kgo.ConsumeResetOffset(start),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err != nil {
		return nil, err
	}
	c := &consumer{client: client, done: make(chan struct{}), versions: make(map[string]int64), moved: make(chan struct{})}
	ctx, c.stop = context.WithCancel(ctx)
	go func() {
		defer close(c.done)
		for ctx.Err() == nil {
			c.take(client.PollFetches(ctx).Records()) // errors pass, or the drain finds out
		}
	}()
	return c, nil
}

func (c *consumer) take(records []*kgo.Record) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rec := range records {
		r := toRecord(rec)
		c.seen = append(c.seen, r)
		if r.Version != c.versions[r.Key]+1 {
			c.doubt = true
		}
		c.versions[r.Key] = r.Version
	}
	if len(records) > 0 {
		close(c.moved)
		c.moved = make(chan struct{})
	}
}

// state is how many records were seen, whether one of them was not the next of its aggregate, and what is closed when there are more.
func (c *consumer) state() (seen int, doubt bool, moved <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen), c.doubt, c.moved
}

// await waits until n records were seen, something is wrong, or ctx ends.
func (c *consumer) await(ctx context.Context, n int) {
	c.until(ctx, func(seen int, doubt bool) bool { return seen >= n || doubt })
}

// awaitAll waits until n records were seen, or ctx ends.
func (c *consumer) awaitAll(ctx context.Context, n int) {
	c.until(ctx, func(seen int, _ bool) bool { return seen >= n })
}

func (c *consumer) until(ctx context.Context, enough func(seen int, doubt bool) bool) {
	for {
		seen, doubt, moved := c.state()
		if enough(seen, doubt) {
			return
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}

// close ends the consumer and returns what it has seen.
func (c *consumer) close() []Record {
	c.stop()
	<-c.done
	c.client.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}
