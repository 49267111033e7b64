// Package kafkasink is the relay's Sink for Kafka: an idempotent producer that waits for every acknowledgement.
//
// It delivers at least once and keeps no watermark: what was published and not confirmed before a crash is published again, with the same event id. It
// neither chooses topics nor shapes records; package record does.
//
// The invariant: Publish returns nil only if the brokers have acknowledged, with acks=all, each event given to it. Within a key the records keep the
// order of the events: what the producer retries is neither doubled nor overtaken, and a key has one partition, murmur2 of its bytes as in Java's producer.
package kafkasink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/relay"
)

// Config says where to publish. Brokers or ClientOptions must name a broker; the zero value of every other field is its default.
type Config struct {
	// Brokers are the addresses, host:port, of some brokers of the cluster.
	Brokers []string

	// ClientOptions go to the Kafka client before the options that the guarantee rests on, which win: acknowledgements, idempotence, retries,
	// partitioner and flushing cannot be changed here. TLS, SASL, compression and ProducerBatchMaxBytes can. Defaults to none.
	ClientOptions []kgo.Opt

	// PositionHeaders adds the headers walpost_lsn, walpost_index and walpost_committed_at, which another relay does not write. Defaults to false.
	PositionHeaders bool

	// CreateTopics creates missing topics, with the brokers' default number of partitions and replicas. Defaults to false: a missing
	// topic halts the relay, because a misspelt event type would otherwise make one.
	CreateTopics bool

	// ConnectTimeout bounds how long Open waits for a broker to answer. Defaults to 10 s.
	ConnectTimeout time.Duration
}

// Sink opens publishers on one Kafka cluster. It is safe for concurrent use.
type Sink struct {
	cfg     Config
	options []kgo.Opt
}

// New checks the configuration; it connects to nothing.
func New(cfg Config) (*Sink, error) {
	if len(cfg.Brokers) == 0 && len(cfg.ClientOptions) == 0 {
		return nil, errors.New("kafkasink: Brokers is empty")
	}
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, 10*time.Second)
	s := &Sink{cfg: cfg, options: options(cfg)}
	if err := kgo.ValidateOpts(s.options...); err != nil {
		return nil, fmt.Errorf("kafkasink: %w", err)
	}
	return s, nil
}

// maxBuffered exceeds the events of any batch: with manual flushing a full buffer refuses records instead of sending them.
const maxBuffered = 1 << 20

func options(cfg Config) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(cfg.Brokers...),
		kgo.ClientID("walpost-relay"),
		// Most batches are an event or a few, which hardly shrink, and every consumer would pay for unpacking each: reading 50,000 events that came
		// in 17,000 batches took half as long again with lz4.
		kgo.ProducerBatchCompression(kgo.NoCompression()),
	}
	opts = append(opts, cfg.ClientOptions...)
	return append(opts,
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.StopProducerOnDataLossDetected(),
		// Records are retried until the engine's context ends: giving up on one that is in flight could reorder its key.
		// The default partitioner hashes keys with murmur2, as Java's producer does.
		kgo.RecordPartitioner(kgo.UniformBytesPartitioner(64<<10, true, true, nil)),
		// A Publish hands over its whole batch and then flushes once, so that each partition gets one request; otherwise the first record of
		// a batch travels alone.
		kgo.ManualFlushing(),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(maxBuffered),
		kgo.DisableClientMetrics(),
	)
}

// Open connects and proves that a broker answers. The watermark is always zero: at least once needs none.
func (s *Sink) Open(ctx context.Context, _ relay.Origin) (relay.Publisher, relay.Watermark, error) {
	client, err := kgo.NewClient(s.options...)
	if err != nil {
		return nil, relay.Watermark{}, fmt.Errorf("kafka client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	if err := ping(ctx, client); err != nil {
		return nil, relay.Watermark{}, authentication(fmt.Errorf("no answer from Kafka at %s: %w", strings.Join(s.cfg.Brokers, ", "), err))
	}
	return &publisher{client: client, cfg: s.cfg}, relay.Watermark{}, nil
}

// ping closes the client when no broker answers. A broker that accepts a connection and then says nothing makes the client's Ping outlast its
// context; closing the client ends it.
func ping(ctx context.Context, client *kgo.Client) error {
	answer := make(chan error, 1)
	go func() { answer <- client.Ping(ctx) }()
	select {
	case err := <-answer:
		if err != nil {
			client.Close()
		}
		return err
	case <-ctx.Done():
		client.Close()
		return errors.Join(ctx.Err(), <-answer)
	}
}
