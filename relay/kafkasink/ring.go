package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/relay"
)

// ring is the transactional ids of a slot. After a transaction its id is of no use until the brokers have written the markers, which takes some
// milliseconds; the others are used meanwhile.
//
// The size belongs to the protocol: a publisher that knew fewer ids would not shut out one that knows more. Measured at 1,000 events a second, commit to
// consumer: one id p50 40 to 50 ms, four 12 ms, sixteen 5 ms, and more are not better.
type ring struct {
	size int
	gap  time.Duration // least time between the beginnings of two transactions: more often costs the brokers more than it brings
	rest time.Duration // how long a member is left alone after its transaction while another can be had: its markers take their time
	keep time.Duration // how long a member may go unused: the brokers forget it after transactional.id.expiration.ms, seven days by default

	settle time.Duration // how long a foreign transaction may hide the watermark: as long as the client's default timeout of Java
}

var defaultRing = ring{size: 16, gap: 4 * time.Millisecond, rest: 50 * time.Millisecond, keep: 24 * time.Hour, settle: time.Minute}

// member is a transactional id that was taken over.
type member struct {
	client *kgo.Client
	met    met
	ended  time.Time // when its latest transaction did, or it was taken over
}

// next is the member for a transaction that begins now: the first that has rested, or else the one that has rested longest. In a hurry that is the whole
// ring in turn. Members that are not needed are left alone: each has a connection and buffers of its own, to be warmed up again whenever it was away
// for long. Only so that the brokers do not forget it, each has its turn after a while. A publisher's first transaction is on the first member: whoever
// took over later has that one too, and the transaction fails.
func (r ring) next(members []member, now time.Time) *member {
	var first *member
	longest := &members[0]
	for i := range members {
		m := &members[i]
		if first == nil && now.Sub(m.ended) >= r.rest {
			first = m
		}
		if m.ended.Before(longest.ended) {
			longest = m
		}
	}
	if first == nil || now.Sub(longest.ended) >= r.keep {
		return longest
	}
	return first
}

const (
	// transactionTimeout is how long the brokers wait for a publisher that has died before they abort its transaction, and also how long consumers of
	// committed records stand still then. The next Open aborts it sooner.
	transactionTimeout = 15 * time.Second

	// fenceTimeout bounds how long Open waits for a predecessor's transaction to be ended.
	fenceTimeout = time.Minute
)

// transactionalID names a member. Whoever publishes from the slot uses the same names.
func transactionalID(o relay.Origin, member int) string {
	return fmt.Sprintf("%s%d", idPrefix(o), member)
}

func idPrefix(o relay.Origin) string { return fmt.Sprintf("relay/%s/%s/", o.SystemID, o.Slot) }

// transactional is the options of the client with a transactional id.
func (s *Sink) transactional(id string, l *limits) []kgo.Opt {
	return append(s.options[:len(s.options):len(s.options)],
		kgo.RecordPartitioner(partitioner{murmur2(), s.cfg.WatermarkTopic}),
		l.option(),
		kgo.TransactionalID(id),
		kgo.TransactionTimeout(transactionTimeout),
		kgo.ConcurrentTransactionsBackoff(5*time.Millisecond), // kgo's own is 20 ms
	)
}

// fence takes over the members in order: it aborts what an earlier publisher left open, waits for what it had committed, and from then on the brokers
// refuse the earlier publisher. The members are returned even with an error.
func (s *Sink) fence(ctx context.Context, o relay.Origin, l *limits) (members []member, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fenceTimeout, fmt.Errorf("not done within %v", fenceTimeout))
	defer cancel()
	for n := range s.ring.size {
		id := transactionalID(o, n)
		client, err := kgo.NewClient(s.transactional(id, l)...)
		if err != nil {
			return members, fmt.Errorf("kafka client: %w", err)
		}
		members = append(members, member{client: client, met: met{}, ended: time.Now()})
		if _, _, err := client.ProducerID(ctx); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = errors.Join(err, cause)
			}
			return members, explainFence(o, id, err)
		}
	}
	return members, nil
}

func explainFence(o relay.Origin, id string, err error) error {
	if errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
		return &relay.HaltError{
			Cause: relay.WatermarkUnusable, From: o.Confirmed, Err: fmt.Errorf("transactional id %s may not be used: %w", id, err),
			Hint: fmt.Sprintf("grant the relay's Kafka user Write and Describe on transactional ids with the prefix %s%s", idPrefix(o), orAtLeastOnce),
		}
	}
	return authentication(explainFenced(o, fmt.Errorf("take over transactional id %s: %w", id, err)))
}

// explainFenced says what it means that the brokers refuse a publisher. To start over is right in each case: if another relay holds the slot, this one
// stands by for it.
func explainFenced(o relay.Origin, err error) error {
	if errors.Is(err, kerr.InvalidProducerIDMapping) {
		return fmt.Errorf("the brokers have forgotten a transactional id of slot %s, as they do with one that was not used for transactional.id.expiration.ms: %w", o.Slot, err)
	}
	for _, refused := range []error{kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState} {
		if errors.Is(err, refused) {
			return fmt.Errorf("this publisher of slot %s is shut out: a newer relay owns the slot, or a transaction took longer than %v: %w", o.Slot, transactionTimeout, err)
		}
	}
	return err
}

// partitioner puts the watermarks where they are read, whatever the number of partitions of their topic.
type partitioner struct {
	kgo.Partitioner
	watermarks string
}

func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	if topic == p.watermarks {
		return onePartition{}
	}
	return p.Partitioner.ForTopic(topic)
}

type onePartition struct{}

func (onePartition) RequiresConsistency(*kgo.Record) bool        { return true }
func (onePartition) Partition(_ *kgo.Record, partitions int) int { return watermarkPartition }
