package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// clientOptions are the settings of the transactional client; those that the guarantee rests on stand last and win.
func (s *session) clientOptions() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.WithLogger(clientLog{s.cfg.Logger}),
		kgo.SeedBrokers(s.cfg.Brokers...),
		// Most batches are small and hardly shrink, and every consumer would pay for unpacking them.
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.FetchMaxBytes(8 << 20),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 {
			if topic == s.cfg.DeadLetterTopic {
				return 16 << 20 // the topic's own limit decides what is too large
			}
			return 1_000_012 // below Kafka's default of max.message.bytes
		}),
	}
	opts = append(opts, s.cfg.ClientOptions...)
	if s.cfg.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(s.cfg.InstanceID))
	}
	return append(opts,
		kgo.TransactionalID(s.t.transactional),
		kgo.TransactionTimeout(s.cfg.TransactionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.StopProducerOnDataLossDetected(),
		// One flush a transaction gives each partition one request; otherwise the first record of a batch travels alone.
		kgo.ManualFlushing(),
		kgo.ProducerLinger(0),
		kgo.RecordPartitioner(newPartitioner(s.cfg.DeadLetterTopic)),

		kgo.ConsumerGroup(s.cfg.Group),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that the offset passes a marker at the end of the log

		// A group that has no offset begins at the beginning. A group whose offset is not in the log any more stops and says so.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.AdjustFetchOffsetsFn(s.begin),

		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.OnPartitionsAssigned(s.assigned),
		kgo.OnPartitionsRevoked(s.revoked),
		kgo.OnPartitionsLost(s.lost),
	)
}

// begin gives partitions without an offset the number at which their log begins. Left to itself the client would go back to 0 after an abort
// of their first batch, which retention may have passed.
func (s *session) begin(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	for topic, partitions := range offsets {
		var starts kadm.ListedOffsets
		for number, offset := range partitions {
			if offset.EpochOffset().Offset >= 0 {
				continue
			}
			if starts == nil {
				var err error
				if starts, err = kadm.NewClient(s.client).ListStartOffsets(ctx, topic); err != nil {
					return nil, fmt.Errorf("list the beginnings of topic %s: %w", topic, err)
				}
			}
			at, found := starts.Lookup(topic, number)
			if !found {
				at.Err = kerr.UnknownTopicOrPartition
			}
			if at.Err != nil {
				return nil, fmt.Errorf("list the beginning of %s/%d: %w", topic, number, at.Err)
			}
			partitions[number] = kgo.NewOffset().At(at.Offset)
		}
	}
	return offsets, nil
}

// fence takes over the transactional id: the broker ends what a former owner left open, and answers only when that is done. Without it a
// crashed owner's transaction would stay open until it times out, and so long its offsets could not be read.
func (s *session) fence(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fenceLimit, fmt.Errorf("no answer from Kafka within %v", fenceLimit))
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		_, _, err := s.client.ProducerID(ctx)
		answer <- err
	}()
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		s.client.Close() // a broker that accepts connections and says nothing makes the call outlast its context; this ends it
		err = errors.Join(context.Cause(ctx), <-answer)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("take over transactional id %q: %w", s.t.transactional, err)
	for _, final := range []error{
		kerr.TransactionalIDAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.SaslAuthenticationFailed, kerr.InvalidTransactionTimeout,
		kerr.UnsupportedVersion,
	} {
		if errors.Is(err, final) {
			return &endError{err}
		}
	}
	return err
}

const fenceLimit = 30 * time.Second

// agrees checks that the group's offsets are those that the client went back to after a commit that did not succeed. One answer of the broker
// leaves open whether it committed, and the client takes it for an abort: going on from there would publish the batch a second time.
func (s *session) agrees(ctx context.Context) error {
	saved, err := kadm.NewClient(s.client).FetchOffsets(kadm.RequireStable(ctx), s.cfg.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("look up whether the transaction was committed: %w", err)
	}
	for topic, partitions := range s.client.CommittedOffsets() {
		for number, ours := range partitions {
			at, found := saved.Lookup(topic, number)
			switch {
			case !found || at.At < 0 && at.Err == nil: // nothing was ever committed
			case at.Err != nil:
				return fmt.Errorf("look up whether the transaction was committed: %s/%d: %w", topic, number, at.Err)
			case at.At != ours.Offset:
				return fmt.Errorf("%s/%d: the group's offset is %d, the client's %d: the broker committed without saying so",
					topic, number, at.At, ours.Offset)
			}
		}
	}
	return nil
}

// partitioner sends records where the relay sends them, by murmur2 of the key as Java's producer does, and dead letters to the partition
// they came from, modulo the topic's number of them.
type partitioner struct {
	dead  string
	keyed kgo.Partitioner
	same  kgo.Partitioner
}

func newPartitioner(dead string) partitioner {
	return partitioner{
		dead: dead, keyed: kgo.UniformBytesPartitioner(64<<10, true, true, nil),
		same: kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
			return func(rec *kgo.Record, n int) int { return int(rec.Partition) % n }
		}),
	}
}

// ForTopic implements kgo.Partitioner.
func (p partitioner) ForTopic(topic string) kgo.TopicPartitioner {
	if topic == p.dead {
		return p.same.ForTopic(topic)
	}
	return p.keyed.ForTopic(topic)
}
