package inbox_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/record"
)

const (
	raw         = "dbz.public.outbox_events"
	forwarders  = "walpost-forward"
	outA, outB  = "out.a", "out.b"
	rawTopics   = 3 // partitions of every topic of a flow
	flowSession = 6 * time.Second
)

// flow is a broker with a topic to transform and topics to publish to.
type flow struct {
	t        *testing.T
	kafka    *kafkatest.Cluster
	producer *kgo.Client
	admin    *kadm.Client
}

func newFlow(t *testing.T, opts ...kfake.Opt) *flow {
	t.Helper()
	f := &flow{t: t, kafka: kafkatest.Start(t, opts...)}
	for _, topic := range []string{raw, outA, outB, deadLetters} {
		f.kafka.CreateTopic(t, topic, rawTopics)
	}
	f.producer = f.kafka.Client(t, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	f.admin = kadm.NewClient(f.kafka.Client(t))
	return f
}

// publish writes messages with the keys k0 to k9 in turn and the values from, from+1, …; half of them go to each output topic.
func (f *flow) publish(from, n int) {
	f.t.Helper()
	var records []*kgo.Record
	for i := from; i < from+n; i++ {
		records = append(records, message(fmt.Sprint("k", i%10), fmt.Sprintf("%06d", i)))
	}
	f.produce(records...)
}

func (f *flow) produce(records ...*kgo.Record) {
	f.t.Helper()
	if err := f.producer.ProduceSync(f.t.Context(), records...).FirstErr(); err != nil {
		f.t.Fatalf("publish: %v", err)
	}
}

func message(key, value string) *kgo.Record {
	return &kgo.Record{Topic: raw, Key: []byte(key), Value: []byte(value)}
}

// route sends odd values to outA, even ones to outB.
func route(_ context.Context, m *inbox.Message) ([]record.Record, error) {
	topic := outA
	if v := m.Record.Value; len(v) > 0 && v[len(v)-1]%2 == 0 {
		topic = outB
	}
	return []record.Record{{Topic: topic, Key: m.Record.Key, Value: m.Record.Value, Headers: []record.Header{{Key: "id", Value: m.Record.Value}}}}, nil
}

// transformer is a running one.
type transformer struct {
	t      *testing.T
	it     *inbox.Transformer
	seen   *transactions
	log    *logBuffer
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // of Run, once ended is closed
}

// start runs a transformer with route, unless edit changes that. It is stopped when the test ends.
func (f *flow) start(edit func(*inbox.TransformConfig)) *transformer {
	f.t.Helper()
	x := &transformer{t: f.t, seen: &transactions{}, log: &logBuffer{}, ended: make(chan struct{})}
	cfg := inbox.TransformConfig{
		Brokers: f.kafka.Brokers, Group: forwarders, Topics: []string{raw}, Transform: route,
		RetryMin: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond, TransactionTimeout: 5 * time.Second,
		Observer: x.seen, Logger: slog.New(slog.NewTextHandler(x.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		ClientOptions: []kgo.Opt{
			kgo.HeartbeatInterval(50 * time.Millisecond), kgo.SessionTimeout(flowSession), kgo.RebalanceTimeout(9 * time.Second),
			kgo.FetchMaxWait(100 * time.Millisecond), kgo.MetadataMinAge(50 * time.Millisecond),
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if x.it, err = inbox.NewTransformer(cfg); err != nil {
		f.t.Fatalf("NewTransformer: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	x.cancel = cancel
	go func() {
		defer close(x.ended)
		x.err = x.it.Run(ctx)
	}()
	f.t.Cleanup(func() {
		_ = x.stop() // a test that cares has stopped it
		if f.t.Failed() {
			text := x.log.String()
			f.t.Logf("end of the log of the transformer:\n%s", text[max(0, len(text)-20_000):])
		}
	})
	return x
}

func (x *transformer) stop() error {
	x.t.Helper()
	x.cancel()
	return x.wait()
}

func (x *transformer) wait() error {
	x.t.Helper()
	select {
	case <-x.ended:
	case <-time.After(2 * limit):
		x.t.Fatalf("Run did not return within %v", 2*limit)
	}
	return x.err
}

func (x *transformer) mustStop() {
	x.t.Helper()
	if err := x.stop(); err != nil {
		x.t.Fatalf("Run = %v, want a clean drain", err)
	}
}

// transactions counts.
type transactions struct {
	mu                               sync.Mutex // protects the fields
	in, out, dead, committed, failed int
	moves                            []inbox.Rebalance
	lag                              []inbox.Lag
}

func (o *transactions) TransactionEnded(tx inbox.Transaction) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if tx.Err != nil {
		o.failed++
		return
	}
	o.committed++
	o.in, o.out, o.dead = o.in+tx.In, o.out+tx.Out, o.dead+tx.Dead
}

func (o *transactions) Rebalanced(kind inbox.Rebalance, _, _ int, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.moves = append(o.moves, kind)
}

func (o *transactions) Lag(partitions []inbox.Lag) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lag = slices.Clone(partitions)
}

func (o *transactions) get(field func(*transactions) int) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return field(o)
}

func published(o *transactions) int { return o.out }
func failures(o *transactions) int  { return o.failed }

// committed are the group's offsets in the raw topic, by partition.
func (f *flow) committed() map[int32]int64 {
	f.t.Helper()
	offsets, err := f.admin.FetchOffsets(f.t.Context(), forwarders)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		f.t.Fatalf("fetch offsets of %s: %v", forwarders, err)
	}
	at := make(map[int32]int64)
	for number, o := range offsets[raw] {
		at[number] = o.At
	}
	return at
}

// carried is the sum of the group's offsets.
func (f *flow) carried() (n int64) {
	f.t.Helper()
	for _, at := range f.committed() {
		n += max(at, 0)
	}
	return n
}

// awaitEnd waits until the group's offsets are the ends of the raw topic.
func (f *flow) awaitEnd() {
	f.t.Helper()
	await(f.t, "everything committed", f.atEnd)
}

func (f *flow) atEnd() bool {
	at := f.committed()
	for number, end := range f.kafka.EndOffsets(f.t, raw) {
		if end > 0 && at[number] != end {
			return false
		}
	}
	return true
}

// read gives all records of a topic that a read_committed consumer sees now, in the order of their partitions. No transaction may be open.
func (f *flow) read(topic string) []*kgo.Record {
	f.t.Helper()
	ends := f.kafka.EndOffsets(f.t, topic)
	ctx, cancel := context.WithTimeout(f.t.Context(), limit)
	defer cancel()
	client := f.kafka.Client(f.t, kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer client.Close()
	var records []*kgo.Record
	for missing := func() bool {
		for _, end := range ends {
			if end > 0 {
				return true
			}
		}
		return false
	}; missing(); {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			f.t.Fatalf("topic %s: not read to its end within %v: %v are missing; is a transaction open?", topic, limit, ends)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= ends[r.Partition] {
				ends[r.Partition] = 0
			}
			if !r.Attrs.IsControl() {
				records = append(records, r)
			}
		})
	}
	slices.SortStableFunc(records, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return records
}

// mustHaveOnce checks that each of n messages of publish, from 0, was published once, and each key in order.
func (f *flow) mustHaveOnce(n int) {
	f.t.Helper()
	seen, last := make(map[string]int), make(map[string]string)
	for _, topic := range []string{outA, outB} {
		for _, r := range f.read(topic) {
			value, key := string(r.Value), topic+" "+string(r.Key)
			seen[value]++
			if value <= last[key] {
				f.t.Errorf("topic and key %s: %s came after %s", key, value, last[key])
			}
			last[key] = value
		}
	}
	lost, doubled := 0, 0
	for i := range n {
		switch seen[fmt.Sprintf("%06d", i)] {
		case 0:
			lost++
		case 1:
		default:
			doubled++
		}
	}
	if lost > 0 || doubled > 0 || len(seen) != n {
		f.t.Errorf("of %d messages %d were lost and %d doubled; there are %d different ones", n, lost, doubled, len(seen))
	}
}

// spoiler gives a client connections whose answers to requests of one kind can be changed on their way, after the broker has done the work.
type spoiler struct {
	key   int16
	spoil func(answer []byte) error // called with the whole answer behind its size; an error cuts the connection. Concurrent calls come
	hits  atomic.Int64
}

func (s *spoiler) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &spoiled{Conn: conn, by: s, asked: make(map[uint32]bool)}, nil
}

type spoiled struct {
	net.Conn
	by *spoiler

	mu    sync.Mutex // protects asked
	asked map[uint32]bool

	rest []byte // of an answer that is being read
}

// Write implements net.Conn. The client writes a request with one call: size, key, version, correlation id.
func (c *spoiled) Write(p []byte) (int, error) {
	if len(p) >= 12 && int16(binary.BigEndian.Uint16(p[4:])) == c.by.key {
		c.mu.Lock()
		c.asked[binary.BigEndian.Uint32(p[8:])] = true
		c.mu.Unlock()
	}
	return c.Conn.Write(p)
}

// Read implements net.Conn.
func (c *spoiled) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		size := make([]byte, 4)
		if _, err := io.ReadFull(c.Conn, size); err != nil {
			return 0, err
		}
		answer := make([]byte, binary.BigEndian.Uint32(size))
		if _, err := io.ReadFull(c.Conn, answer); err != nil {
			return 0, err
		}
		c.mu.Lock()
		mine := c.asked[binary.BigEndian.Uint32(answer)]
		c.mu.Unlock()
		if mine {
			c.by.hits.Add(1)
			if err := c.by.spoil(answer); err != nil {
				_ = c.Close() // the error is the one that matters
				return 0, err
			}
		}
		c.rest = append(size, answer...)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
