package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fetchBytes is large, so that it is never the consumer who is waited for.
const fetchBytes = 32 << 20

// observer is the one consumer of a topic: it reads what is committed and tells of every fetch.
type observer struct {
	client *kgo.Client
	admin  *kadm.Client
	topic  string
	stop   context.CancelFunc
	done   chan struct{} // closed when the loop has ended
	err    error         // of the loop; read after done

	mu    sync.Mutex      // protects ends and moved
	ends  map[int32]int64 // by partition: the offset after the last record read, control records included
	moved chan struct{}   // closed and replaced when ends have changed
}

// recordSink gets what one fetch brought and when; it must not keep the records.
type recordSink func(time.Time, []*kgo.Record)

// observe starts reading the topic from its beginning. sink gets the committed records of each fetch.
func (w *world) observe(ctx context.Context, topic string, sink recordSink) (*observer, error) {
	o := &observer{topic: topic, done: make(chan struct{}), ends: make(map[int32]int64), moved: make(chan struct{})}
	var err error
	o.client, err = kgo.NewClient(
		kgo.SeedBrokers(w.broker.Addr()), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes), kgo.FetchMinBytes(1),
	)
	if err != nil {
		return nil, fmt.Errorf("consumer of %s: %w", topic, err)
	}
	o.admin = kadm.NewClient(o.client)
	ctx, o.stop = context.WithCancel(ctx)
	go func() {
		defer close(o.done)
		o.err = o.loop(ctx, sink)
	}()
	return o, nil
}

func (o *observer) loop(ctx context.Context, sink recordSink) error {
	var records []*kgo.Record
	for {
		fetches := o.client.PollFetches(ctx)
		now := time.Now()
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", o.topic, err)
		}
		records = records[:0]
		ends := make(map[int32]int64)
		fetches.EachRecord(func(r *kgo.Record) {
			ends[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		})
		sink(now, records)
		o.move(ends)
	}
}

func (o *observer) move(ends map[int32]int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for partition, end := range ends {
		o.ends[partition] = end
	}
	close(o.moved)
	o.moved = make(chan struct{})
}

// readOut returns when everything that stands in the topic now has been read.
func (o *observer) readOut(ctx context.Context) error {
	offsets, err := o.admin.ListEndOffsets(ctx, o.topic)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return fmt.Errorf("end of %s: %w", o.topic, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, stallLimit, errors.New("the consumer does not reach the end"))
	defer cancel()
	for {
		o.mu.Lock()
		behind, moved := false, o.moved
		offsets.Each(func(end kadm.ListedOffset) { behind = behind || o.ends[end.Partition] < end.Offset })
		o.mu.Unlock()
		if !behind {
			return nil
		}
		select {
		case <-moved:
		case <-o.done:
			return o.err
		case <-ctx.Done():
			return fmt.Errorf("read %s to its end: %w", o.topic, context.Cause(ctx))
		}
	}
}

// close ends the consumer and returns what went wrong with it.
func (o *observer) close() error {
	o.stop()
	<-o.done
	o.client.Close()
	return o.err
}

// into counts records in a tally; opened is called with the first fetch that brings any.
func into(t *tally, opened func()) recordSink {
	var arrivals []arrival
	return func(now time.Time, records []*kgo.Record) {
		arrivals = arrivals[:0]
		for _, r := range records {
			arrivals = append(arrivals, arrival{header(r, "id"), len(r.Value)})
		}
		if t.add(now, arrivals) {
			opened()
		}
	}
}

func header(r *kgo.Record, name string) []byte {
	for _, h := range r.Headers {
		if h.Key == name {
			return h.Value
		}
	}
	return nil
}
