package inbox_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/record"
)

// T2: the broker commits and its answer says that it does not know, or is lost. Taken for an abort, the batch would be published again;
// taken for a commit, a batch that was not committed would be lost.
func TestAnUnknownOutcomeOfACommitIsFoundOut(t *testing.T) {
	t.Parallel()
	errCut := errors.New("the connection was cut by the test")
	const codeAt = 4 + 1 + 4 // behind correlation id, tags and throttle time of a flexible answer
	for name, spoil := range map[string]func(answer []byte) error{
		"unknown server error": func(answer []byte) error {
			binary.BigEndian.PutUint16(answer[codeAt:], 0xffff)
			return nil
		},
		"request timed out": func(answer []byte) error {
			binary.BigEndian.PutUint16(answer[codeAt:], uint16(kerr.RequestTimedOut.Code))
			return nil
		},
		"no answer": func([]byte) error { return errCut },
	} {
		for _, id := range []string{"", "forwarder-0"} {
			t.Run(name+", instance "+id, func(t *testing.T) {
				t.Parallel()
				f := newFlow(t)
				f.publish(0, 1000)
				var n atomic.Int64
				s := &spoiler{key: int16(kmsg.EndTxn), spoil: func(answer []byte) error {
					if i := n.Add(1); i%3 == 0 || i > 12 {
						return nil
					}
					return spoil(answer)
				}}
				x := f.start(func(c *inbox.TransformConfig) {
					c.InstanceID = id
					c.Batch = 100
					c.ClientOptions = append(c.ClientOptions, kgo.Dialer(s.dial), kgo.RequestRetries(1)) // which two bad answers in a row outlast
				})
				f.awaitEnd()
				x.mustStop()
				if s.hits.Load() < 4 {
					t.Errorf("%d commits were spoiled, want more", s.hits.Load())
				}
				f.mustHaveOnce(1000)
			})
		}
	}
}

// brokerFaults are answers that Kafka may give to a transformer.
var brokerFaults = map[kmsg.Key][]*kerr.Error{
	kmsg.Produce: {
		kerr.RequestTimedOut, kerr.NotLeaderForPartition, kerr.NotEnoughReplicasAfterAppend, kerr.InvalidProducerEpoch, kerr.ProducerFenced,
		kerr.OutOfOrderSequenceNumber, kerr.InvalidTxnState, kerr.TransactionAbortable, kerr.InvalidProducerIDMapping, kerr.UnknownServerError,
	},
	kmsg.EndTxn: {
		kerr.RequestTimedOut, kerr.UnknownServerError, kerr.NotCoordinator, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress,
		kerr.ConcurrentTransactions, kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.InvalidTxnState, kerr.TransactionAbortable,
	},
	kmsg.TxnOffsetCommit: {
		kerr.RequestTimedOut, kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.NotCoordinator,
		kerr.CoordinatorLoadInProgress, kerr.InvalidProducerEpoch, kerr.TransactionAbortable, kerr.UnknownServerError,
	},
	kmsg.AddOffsetsToTxn: {kerr.ConcurrentTransactions, kerr.NotCoordinator, kerr.InvalidProducerEpoch, kerr.UnknownServerError},
	kmsg.InitProducerID:  {kerr.ConcurrentTransactions, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress, kerr.RequestTimedOut},
	kmsg.Heartbeat:       {kerr.UnknownMemberID, kerr.IllegalGeneration, kerr.RebalanceInProgress, kerr.NotCoordinator},
	kmsg.JoinGroup:       {kerr.UnknownMemberID, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress},
	kmsg.SyncGroup:       {kerr.UnknownMemberID, kerr.RebalanceInProgress, kerr.NotCoordinator},
	kmsg.OffsetFetch:     {kerr.UnstableOffsetCommit, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress},
	kmsg.Fetch:           {kerr.NotLeaderForPartition, kerr.RequestTimedOut, kerr.ReplicaNotAvailable},
}

// A member that is thrown out while it commits: its heartbeats have ended, so that the commit would wait for one, and the news of the loss
// would wait for the commit.
func TestAMemberThatIsThrownOutWhileItCommitsGoesOn(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 500)
	x := f.start(func(c *inbox.TransformConfig) {
		c.TransactionTimeout = time.Minute
		c.Batch = 50
		c.Transform = func(ctx context.Context, m *inbox.Message) ([]record.Record, error) {
			if string(m.Record.Value) == "000250" && m.Attempt == 1 {
				beat := f.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: forwarders, Err: kerr.UnknownMemberID, Count: 1})
				if err := beat.Wait(ctx, 1); err != nil {
					return nil, err
				}
				beat.Remove()
			}
			return route(ctx, m)
		}
	})
	began := time.Now()
	f.awaitEnd()
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("it took %v, want a few seconds", took)
	}
	x.mustStop()
	f.mustHaveOnce(500)
}

// Whatever the broker answers and whenever: nothing is lost, nothing is doubled, no restart is needed.
func TestFaultsOfTheBrokerLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	const messages, rounds = 1600, 20
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	f := newFlow(t)
	keys := slices.Sorted(maps.Keys(brokerFaults))
	keys = append(keys, kmsg.Produce, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.Produce, kmsg.EndTxn, kmsg.TxnOffsetCommit) // more often
	var cut atomic.Bool
	s := &spoiler{key: int16(kmsg.EndTxn), spoil: func([]byte) error {
		if cut.Swap(false) {
			return errors.New("the connection was cut by the test")
		}
		return nil
	}}
	x := f.start(func(c *inbox.TransformConfig) {
		c.Batch = 10
		c.ClientOptions = append(c.ClientOptions, kgo.Dialer(s.dial), kgo.RetryTimeout(time.Second))
	})
	hits := 0
	for i := range rounds {
		var faults []kfake.Fault
		for range 3 {
			key := keys[random.IntN(len(keys))]
			answers := brokerFaults[key]
			faults = append(faults, kfake.Fault{
				Keys: []kmsg.Key{key}, Err: answers[random.IntN(len(answers))], Count: 1 + random.IntN(2),
				TopLevel: random.IntN(2) == 0,
				When: func(req kmsg.Request) bool { // not those of the test itself
					switch req := req.(type) {
					case *kmsg.ProduceRequest:
						return req.TransactionID != nil
					case *kmsg.OffsetFetchRequest:
						return len(req.Groups) > 0 && req.Groups[0].MemberID != nil
					}
					return true
				},
			})
		}
		fault := f.kafka.Fault(faults...)
		cut.Store(random.IntN(4) == 0)
		f.publish(i*messages/rounds, messages/rounds)
		target := i*messages/rounds + random.IntN(messages/rounds)
		await(t, fmt.Sprintf("%d messages published", target), func() bool {
			select {
			case <-x.ended:
				t.Fatalf("Run = %v", x.err)
			default:
			}
			return f.carried() >= int64(target)
		})
		hits += int(fault.Hits())
		fault.Remove()
	}
	f.awaitEnd()
	x.mustStop()
	f.mustHaveOnce(messages)
	t.Logf("%d faults, %d transactions, %d failed batches", hits, x.seen.committed, x.seen.failed)
}

// T1: an abort leaves fetched records ahead of the committed offset; a rebalance comes at any time.
func TestTransformersThatComeAndGoLoseAndDoubleNothing(t *testing.T) {
	t.Parallel()
	const messages, rounds = 3000, 12
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	f := newFlow(t)
	edit := func(c *inbox.TransformConfig) {
		c.Batch = 20
		c.Transform = func(ctx context.Context, m *inbox.Message) ([]record.Record, error) {
			if rand.IntN(2000) == 0 {
				return nil, errors.New("now and then")
			}
			if rand.IntN(200) == 0 { // across a rebalance
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(rand.IntN(60)) * time.Millisecond):
				}
			}
			return route(ctx, m)
		}
	}
	running := []*transformer{f.start(edit)}
	aborted, moves := 0, 0
	gone := func(x *transformer) {
		x.mustStop()
		aborted += x.seen.failed
		moves += len(x.seen.moves)
	}
	for i := range rounds {
		f.publish(i*messages/rounds, messages/rounds)
		if i%2 == 0 {
			running = append(running, f.start(edit))
		} else if len(running) > 1 {
			which := random.IntN(len(running))
			gone(running[which])
			running = append(running[:which], running[which+1:]...)
		}
		target := int64(i*messages/rounds + random.IntN(messages/rounds))
		await(t, fmt.Sprintf("%d messages carried", target), func() bool { return f.carried() >= target })
	}
	f.awaitEnd()
	for _, x := range running {
		gone(x)
	}
	f.mustHaveOnce(messages)
	t.Logf("%d failed batches, %d rebalances", aborted, moves)
	if moves < rounds {
		t.Errorf("%d rebalances, want at least %d", moves, rounds)
	}
}

// A member that hangs in its commit is thrown out of the group; its transaction must not be committed behind the back of the next owner.
func TestAnOwnerThatHangsInItsCommitIsNotFollowedUntilThatIsOver(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 500)
	hanging := make(chan struct{}, 1)
	leave := make(chan struct{})
	var once atomic.Bool
	f.kafka.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		f.kafka.KeepControl()
		if once.Swap(true) {
			return nil, nil, false
		}
		f.kafka.SleepControl(func() {
			hanging <- struct{}{}
			<-leave
		})
		return nil, nil, false
	})
	first := f.start(nil)
	receive(t, "a commit that hangs", hanging)
	second := f.start(nil)
	await(t, "the second to join", func() bool { return second.it.Ready() == nil || strings.Contains(second.log.String(), "rebalance") })
	close(leave)
	f.awaitEnd()
	first.mustStop()
	second.mustStop()
	f.mustHaveOnce(500)
}

// The next process of the same instance takes over at once what a crashed one left open.
func TestANewProcessOfAnInstanceEndsTheTransactionOfTheOneBefore(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 200)
	// The crashed process: in its group, with a transaction that has records and offsets and is not ended.
	var line killable
	crashed, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(f.kafka.Brokers...), kgo.TransactionalID(forwarders+"/forwarder-0"), kgo.InstanceID("forwarder-0"),
		kgo.TransactionTimeout(5*time.Minute), kgo.ConsumerGroup(forwarders), kgo.ConsumeTopics(raw), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.Balancers(kgo.CooperativeStickyBalancer()), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.Dialer(line.dial))
	if err != nil {
		t.Fatal(err)
	}
	defer crashed.Close()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if n := crashed.PollFetches(ctx).NumRecords(); n == 0 {
		t.Fatal("nothing was read")
	}
	if err := crashed.Begin(); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		crashed.Produce(ctx, &kgo.Record{Topic: outA, Key: []byte("k"), Value: fmt.Appendf(nil, "crashed %d", i)}, nil)
	}
	ending := make(chan struct{})
	f.kafka.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		close(ending)
		return nil, errors.New("it never arrived"), true
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = crashed.End(ctx, kgo.TryCommit) // it dies in there
	}()
	receive(t, "the end of its transaction", ending)
	line.kill()
	defer func() { cancel(); <-ended }()
	began := time.Now()
	x := f.start(func(c *inbox.TransformConfig) { c.InstanceID = "forwarder-0" })
	f.awaitEnd()
	f.mustHaveOnce(200) // which needs the end of every transaction
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the takeover took %v, want far less than the time-out of five minutes", took)
	}
	x.mustStop()
}

// killable are the connections of a process that can be killed.
type killable struct {
	mu    sync.Mutex // protects the fields
	dead  bool
	conns []net.Conn
}

func (k *killable) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return nil, errors.New("the process is dead")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		k.conns = append(k.conns, conn)
	}
	return conn, err
}

func (k *killable) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dead = true
	for _, conn := range k.conns {
		_ = conn.Close() // as a kernel does for the dead
	}
}

func TestTwoProcessesOfOneInstanceAreFoundOut(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	named := func(c *inbox.TransformConfig) { c.InstanceID = "forwarder-0" }
	f.publish(0, 100)
	first := f.start(named)
	f.awaitEnd()
	second := f.start(named)
	await(t, "the second to join", func() bool { return second.it.Ready() == nil })
	f.publish(100, 100)
	if err := first.wait(); err == nil || !errors.Is(err, kerr.FencedInstanceID) && !errors.Is(err, kerr.ProducerFenced) {
		t.Errorf("Run of the first = %v, want an error that says that another process has its name", err)
	}
	f.awaitEnd()
	second.mustStop()
	f.mustHaveOnce(200)
}
