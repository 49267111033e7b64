// Package kafkasink is the relay's Sink for Kafka. It delivers exactly once, with transactions that hold the events and the relay's new position
// together, or at least once, with an idempotent producer. It neither chooses topics nor shapes records; package record does.
//
// The invariant: Publish returns nil only if the brokers have acknowledged, with acks=all, each event given to it. Within a key the records keep the
// order of the events: what the producer retries is neither doubled nor overtaken, and a key has one partition, murmur2 of its bytes as in Java's producer.
//
// At least once, no watermark is kept: what was published and not confirmed before a crash is published again, with the same event id. Exactly once
// rests on four things more, which the files ring.go, transaction.go, watermark.go and store.go keep:
//
//   - The watermark is a record of a compacted topic, in the same transaction as the events. A consumer that reads committed records sees both or neither.
//   - A slot has sixteen transactional ids, the ring, derived from the database's system identifier and the slot, which nobody can configure. Open takes
//     over all of them, in order, before it reads the watermark; from then on no earlier publisher can commit anything.
//   - A publisher begins with the first member of the ring, and no transaction begins before the one before it is known to be committed. So what is
//     committed is a prefix of the log, without holes, and whoever commits anything has taken over the whole ring.
//   - The first failed record vetoes the commit, and whatever ends otherwise than committed or aborted ends the publisher: the next Open finds out.
package kafkasink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// Config says where to publish. Brokers or ClientOptions must name a broker; the zero value of every other field is its default.
type Config struct {
	// Brokers are the addresses, host:port, of some brokers of the cluster.
	Brokers []string

	// ClientOptions go to the Kafka client before the options that the guarantee rests on, which win: acknowledgements, retries, partitioner and
	// flushing cannot be changed here, and New refuses to give up idempotence and a transactional id. TLS, SASL, compression and
	// ProducerBatchMaxBytes can be set; the latter lowers what topics take (max.message.bytes), and raises it for batches that are compressed.
	// Defaults to none.
	ClientOptions []kgo.Opt

	// PositionHeaders adds the headers walpost_lsn, walpost_index and walpost_committed_at, which another relay does not write. Defaults to false.
	PositionHeaders bool

	// CreateTopics creates missing topics, with the brokers' default number of partitions and replicas. Defaults to false: a missing
	// topic halts the relay, because a misspelt event type would otherwise make one.
	CreateTopics bool

	// Delivery is relay.ExactlyOnce or relay.AtLeastOnce. The former is as strong as its name on brokers with transaction.version 2, which is that of
	// clusters made with Kafka 4.0 or later; with an older one a transaction can be torn when a message of it is late, and the publisher says that it
	// is relay.Transactional. Consumers must read committed records only. It begins by itself on a slot that is new; one through which something else
	// published, Debezium or at least once, halts the relay until Sink.Adopt has begun a watermark for it. At least once needs no watermark and costs
	// less time, and a crash repeats what was published and not confirmed. Defaults to relay.ExactlyOnce.
	Delivery relay.Delivery

	// WatermarkTopic is where the watermark is kept, by exactly once only. It is created when it is missing, compacted. Relays of several slots and
	// databases share it. Defaults to outbox.relay.watermarks.
	WatermarkTopic string

	// DeadLetterTopic is where events go that can never be published: rows that the Source hands on as dead, records that their topic does not take, and,
	// unless CreateTopics is set, events whose topic does not exist. A dead letter has the key, the value and the headers of its event, and headers that
	// say why and from where (see package record); it is published in the place of its event, in the same transaction. The later events of its key go
	// on. Defaults to none: such an event halts the relay.
	DeadLetterTopic string

	// Logger gets what an operator should know of a start, at level info and warn. Payloads are never logged. Defaults to none.
	Logger *slog.Logger

	// ConnectTimeout bounds how long Open waits for a broker to answer. Defaults to 10 s.
	ConnectTimeout time.Duration
}

// Sink opens publishers on one Kafka cluster. It is safe for concurrent use.
type Sink struct {
	cfg     Config
	options []kgo.Opt
	ring    ring
	bounds  bounds
	singles singles
	doomed  doomed
}

// New checks the configuration; it connects to nothing.
func New(cfg Config) (*Sink, error) {
	if len(cfg.Brokers) == 0 && len(cfg.ClientOptions) == 0 {
		return nil, errors.New("kafkasink: Brokers is empty")
	}
	if cfg.Delivery != relay.ExactlyOnce && cfg.Delivery != relay.AtLeastOnce {
		return nil, fmt.Errorf("kafkasink: Delivery is %s, and must be %s or %s", cfg.Delivery, relay.ExactlyOnce, relay.AtLeastOnce)
	}
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, 10*time.Second)
	cfg.WatermarkTopic = cmp.Or(cfg.WatermarkTopic, "outbox.relay.watermarks")
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if err := cfg.checkDeadLetters(); err != nil {
		return nil, fmt.Errorf("kafkasink: DeadLetterTopic: %w", err)
	}
	s := &Sink{cfg: cfg, options: options(cfg), ring: defaultRing}
	if err := s.inspect(); err != nil {
		return nil, fmt.Errorf("kafkasink: %w", err)
	}
	return s, nil
}

func (c Config) checkDeadLetters() error {
	switch c.DeadLetterTopic {
	case "":
		return nil
	case c.WatermarkTopic:
		return fmt.Errorf("%s keeps the watermark", c.WatermarkTopic)
	}
	return record.CheckTopic(c.DeadLetterTopic)
}

// inspect refuses the options that the guarantee does not survive and that nothing can win over, and reads the ones that are ours to respect.
func (s *Sink) inspect() error {
	client, err := kgo.NewClient(s.options...) // connects to nothing
	if err != nil {
		return err
	}
	defer client.Close()
	for name, option := range map[string]any{
		"DisableIdempotentWrite": kgo.DisableIdempotentWrite, "AllowIdempotentProduceCancellation": kgo.AllowIdempotentProduceCancellation,
	} {
		if set, _ := client.OptValue(option).(bool); set {
			return fmt.Errorf("ClientOptions has %s, with which retries can double or reorder events", name)
		}
	}
	if id, _ := client.OptValue(kgo.TransactionalID).(string); id != "" {
		return fmt.Errorf("ClientOptions has TransactionalID %q: set Delivery, which derives the ids", id)
	}
	s.bounds = boundsOf(client)
	return kgo.ValidateOpts(s.transactional("relay/0/slot/0", s.newLimits())...)
}

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
		kgo.RecordRetries(math.MaxInt64),
		kgo.RecordDeliveryTimeout(0),
		// The default partitioner hashes keys with murmur2, as Java's producer does.
		kgo.RecordPartitioner(murmur2()),
		// A Publish hands over its whole batch and then flushes once, so that each partition gets one request; otherwise the first record of
		// a batch travels alone.
		kgo.ManualFlushing(),
		kgo.ProducerLinger(0),
		// With manual flushing a full buffer refuses records instead of sending them. The Source bounds a batch.
		kgo.MaxBufferedRecords(math.MaxInt32),
		kgo.MaxBufferedBytes(0),
		kgo.DisableClientMetrics(),
	)
}

func murmur2() kgo.Partitioner { return kgo.UniformBytesPartitioner(64<<10, true, true, nil) }

// Prepare is nil when a broker answers and the watermark topic is there and can keep a watermark. At least once needs nothing of that: it waits for
// brokers with the slot in its hands.
func (s *Sink) Prepare(ctx context.Context) error {
	if s.cfg.Delivery != relay.ExactlyOnce {
		return nil
	}
	client, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	return s.store(client, relay.Origin{}).ensure(ctx)
}

// Open connects and proves that a broker answers. At least once, the watermark is always zero. Exactly once, Open shuts out every earlier
// publisher of the origin, then reads the watermark, and it returns a *relay.HaltError if there should be one and is not, or if a topic ends before
// what was written to it.
func (s *Sink) Open(ctx context.Context, o relay.Origin) (relay.Publisher, relay.Watermark, error) {
	limits := s.newLimits()
	client, err := s.connect(ctx, limits.option())
	if err != nil {
		return nil, relay.Watermark{}, err
	}
	records := s.newRecords(limits)
	if s.cfg.Delivery != relay.ExactlyOnce {
		return &publisher{client: client, records: records}, relay.Watermark{}, nil
	}
	records.reserved = s.cfg.WatermarkTopic
	p := &transactor{sink: s, origin: o, admin: client, records: records, written: offsets{}}
	if err := p.takeOver(ctx); err != nil {
		return nil, relay.Watermark{}, errors.Join(err, p.Close())
	}
	w, err := p.recover(ctx) // after takeOver: before it, an earlier publisher could still commit
	if err != nil {
		return nil, relay.Watermark{}, errors.Join(err, p.Close())
	}
	return p, w, nil
}

func (s *Sink) newRecords(l *limits) records {
	return records{
		position: s.cfg.PositionHeaders, topics: creator{enabled: s.cfg.CreateTopics}, limits: l,
		letters: letters{topic: s.cfg.DeadLetterTopic, doomed: &s.doomed, log: s.cfg.Logger},
	}
}

// connect returns a client that is connected to a broker.
func (s *Sink) connect(ctx context.Context, more ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append(s.options[:len(s.options):len(s.options)], more...)...)
	if err != nil {
		return nil, fmt.Errorf("kafka client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	if err := ping(ctx, client); err != nil {
		return nil, authentication(fmt.Errorf("no answer from Kafka at %s: %w", strings.Join(s.cfg.Brokers, ", "), err))
	}
	return client, nil
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
