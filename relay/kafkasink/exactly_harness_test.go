package kafkasink_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
)

const watermarks = "outbox.relay.watermarks"

// fresh is the origin of a slot that was just made.
var fresh = relay.Origin{SystemID: "77", Timeline: 1, Slot: "walpost", Confirmed: 50, Fresh: true}

// used is the same slot later on.
var used = relay.Origin{SystemID: "77", Timeline: 1, Slot: "walpost", Confirmed: 50}

func exactlyOnce(t testing.TB, brokers []string, opts ...kgo.Opt) *kafkasink.Sink {
	t.Helper()
	return newSink(t, kafkasink.Config{Brokers: brokers, ClientOptions: opts, Delivery: relay.ExactlyOnce})
}

// opened is a publisher and the watermark that it began with.
type opened struct {
	relay.Publisher
	mark relay.Watermark
}

// openSink prepares and opens a sink as the engine does.
func openSink(t testing.TB, sink *kafkasink.Sink, o relay.Origin) (*opened, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := sink.Prepare(ctx); err != nil {
		return nil, err
	}
	p, w, err := sink.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = p.Close() })
	return &opened{p, w}, nil
}

func mustOpen(t testing.TB, sink *kafkasink.Sink, o relay.Origin) *opened {
	t.Helper()
	p, err := openSink(t, sink, o)
	if err != nil {
		t.Fatalf("Open = %v, want no error", err)
	}
	return p
}

// put publishes events of their own transactions as the engine does, and moves the watermark on.
func (p *opened) put(t testing.TB, events ...relay.Event) error {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("not published within %v", patience))
	defer cancel()
	p.mark = markBehind(events)
	err := p.Publish(ctx, events, p.mark)
	if ctx.Err() != nil {
		t.Fatal(context.Cause(ctx))
	}
	return err
}

func (p *opened) mustPut(t testing.TB, events ...relay.Event) {
	t.Helper()
	if err := p.put(t, events...); err != nil {
		t.Fatalf("Publish = %v, want no error", err)
	}
}

// one is the nth event, alone.
func one(n int) relay.Event { return event(n, fmt.Sprint("key", n), fmt.Sprint(n)) }

// markAt is the watermark behind it.
func markAt(n int) relay.Watermark {
	return markBehind([]relay.Event{one(n)})
}

// committed is the values that a consumer of committed records finds in a topic, read to its end at present.
func committed(t testing.TB, brokers []string, topic string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("topic %s was not read within %v", topic, patience))
	defer cancel()
	start := kgo.NewOffset().AtStart()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(start), kgo.ConsumeResetOffset(start),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends := settledEnds(ctx, t, kadm.NewClient(client), topic)
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	values := []string{}
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
				values = append(values, string(rec.Value))
			}
		})
	}
	return values
}

// settledEnds are the ends for a consumer of committed records. The markers of a transaction that is committed may still be on their way, on a real
// broker: they are waited for, but not for ever, since a transaction may have been left open.
func settledEnds(ctx context.Context, t testing.TB, adm *kadm.Client, topic string) kadm.ListedOffsets {
	t.Helper()
	patient := time.NewTimer(time.Second)
	defer patient.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		stable, err := adm.ListCommittedOffsets(ctx, topic)
		if err != nil {
			t.Fatal(err)
		}
		all, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			t.Fatal(err)
		}
		open := false
		all.Each(func(o kadm.ListedOffset) {
			if s, ok := stable.Lookup(o.Topic, o.Partition); !ok || s.Offset < o.Offset {
				open = true
			}
		})
		if !open {
			return stable
		}
		select {
		case <-tick.C:
		case <-patient.C:
			return stable
		}
	}
}

func wantCommitted(t testing.TB, brokers []string, want ...string) {
	t.Helper()
	got := committed(t, brokers, "things")
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" && len(want)+len(got) > 0 {
		t.Errorf("committed values (-want +got):\n%s", diff)
	}
}

// requests records what the broker is asked that matters to the protocol, in order.
type requests struct {
	mu  sync.Mutex // guards log
	log []string
}

func observe(c *kafkatest.Cluster) *requests {
	r := &requests{}
	c.Control(func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		var line string
		switch req := req.(type) {
		case *kmsg.InitProducerIDRequest:
			if req.TransactionalID != nil {
				line = "take over " + *req.TransactionalID
			}
		case *kmsg.ProduceRequest:
			if req.TransactionID != nil {
				line = "produce by " + *req.TransactionID
			}
		case *kmsg.EndTxnRequest:
			line = fmt.Sprintf("end of %s, commit %v", req.TransactionalID, req.Commit)
		case *kmsg.FetchRequest:
			line = "fetch"
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if line != "" && (len(r.log) == 0 || r.log[len(r.log)-1] != line) {
			r.log = append(r.log, line)
		}
		return nil, nil, false
	})
	return r
}

// take returns what was recorded so far, and forgets it.
func (r *requests) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.log
	r.log = nil
	return log
}
