package inbox

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Config says what a Consumer reads and how. Brokers, Group, Topics and Handlers are required; the zero value of every other field is its
// default.
type Config struct {
	// Brokers are the addresses, host:port, of some brokers of the cluster. ClientOptions may name them instead.
	Brokers []string

	// ClientOptions go to the Kafka client before the options that the guarantees rest on, which win: group, topics, isolation, balancer,
	// offsets and rebalance callbacks cannot be changed here. TLS, SASL, timeouts, InstanceID and ProducerBatchMaxBytes can. Defaults to
	// none.
	ClientOptions []kgo.Opt

	// Group is the consumer group. It is also the name under which table inbox_consumer knows this consumer: two groups that share a
	// database each apply every event. Renaming it makes a new consumer, which reads the topics from the beginning and applies everything
	// again.
	Group string

	// Topics are the topics to read, by their exact names. One that is compacted is refused: events would vanish from it unread.
	Topics []string

	// Handlers are the functions to call, by event type (header event_type; "" is the type of a record without that header). A message of
	// any other type is ignored and counted, and its offset moves on.
	Handlers map[string]TxHandler

	// DeadLetterTopic gets the messages that were given up. It must exist; one that is compacted is refused. Defaults to
	// "eventdriven-examples.dlq".
	DeadLetterTopic string

	// Concurrency is how many handlers may run at once; the pool's MaxConns is a second limit. A partition whose handlers hang cannot take
	// the last quarter from the others. Defaults to 16.
	Concurrency int

	// Retry says how often and when a failed message is run again.
	Retry RetryPolicy

	// HandlerTimeout is how long one run of a handler may take; its context ends then, and five seconds later the server ends its
	// session if it does nothing. Running out of time is a failed attempt. Defaults to 30 s.
	HandlerTimeout time.Duration

	// Drain is how long handlers that are running may go on when the consumer is stopped. When a partition is taken away it is this, but
	// at most 20 s and at most a third of the group's rebalance timeout. Defaults to 25 s.
	Drain time.Duration

	// Window bounds what is in memory of each partition.
	Window Window

	// PositionMismatch says what to do when Kafka has a later offset of a partition than table inbox_position. Defaults to Rewind.
	PositionMismatch PositionMismatch

	// Logger gets what an operator should see; never payloads. Defaults to none.
	Logger *slog.Logger

	// Observer is told what happens; it implements one or more of the interfaces whose names end in Observer. Defaults to none.
	Observer any
}

// RetryPolicy says when a message whose handler failed is run again. The n-th wait is Min times 4 to the power of n-1, at most Max, and up
// to a fifth more at random. The message's key waits with it, other keys go on, and no worker is held.
type RetryPolicy struct {
	Attempts int           // runs of the handler before the message is buried. Defaults to 5
	Min      time.Duration // wait after the first failure. Defaults to 200 ms
	Max      time.Duration // longest wait. Defaults to 30 s
}

// Window bounds how far one partition may read beyond its frontier, in records or in bytes of keys, values and headers, whichever is
// reached first; one poll of at most 1,000 records may exceed it. It bounds memory as well as what is delivered again after a crash. A full
// window stops the reading of its partition until half of it is free.
type Window struct {
	Records int   // defaults to 10,000
	Bytes   int64 // defaults to 64 MiB
}

const (
	defaultDeadLetterTopic = "eventdriven-examples.dlq"
	maxRevokeDrain         = 20 * time.Second
)

func (c Config) withDefaults() Config {
	c.DeadLetterTopic = cmp.Or(c.DeadLetterTopic, defaultDeadLetterTopic)
	c.Concurrency = cmp.Or(c.Concurrency, 16)
	c.Retry.Attempts = cmp.Or(c.Retry.Attempts, 5)
	c.Retry.Min = cmp.Or(c.Retry.Min, 200*time.Millisecond)
	c.Retry.Max = cmp.Or(c.Retry.Max, 30*time.Second)
	c.HandlerTimeout = cmp.Or(c.HandlerTimeout, 30*time.Second)
	c.Drain = cmp.Or(c.Drain, 25*time.Second)
	c.Window.Records = cmp.Or(c.Window.Records, 10_000)
	c.Window.Bytes = cmp.Or(c.Window.Bytes, 64<<20)
	c.PositionMismatch = cmp.Or(c.PositionMismatch, Rewind)
	c.Topics, c.Handlers = slices.Clone(c.Topics), maps.Clone(c.Handlers)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate lists every rule, on a Config with defaults.
func (c Config) validate(pool *pgxpool.Pool) error {
	var errs []error
	rule := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	rule(pool != nil, "the pool is nil")
	rule(len(c.Brokers) > 0 || len(c.ClientOptions) > 0, "Brokers is empty")
	rule(c.Group != "", "Group is empty")
	rule(len(c.Topics) > 0, "Topics is empty")
	rule(!slices.Contains(c.Topics, ""), "Topics has an empty name")
	rule(!slices.Contains(c.Topics, c.DeadLetterTopic),
		"DeadLetterTopic %q is one of Topics: a dead letter would be handled, and buried, for ever", c.DeadLetterTopic)
	rule(len(c.Handlers) > 0, "Handlers is empty")
	for eventType, h := range c.Handlers {
		rule(h != nil, "the handler of event type %q is nil", eventType)
	}
	rule(c.Concurrency > 0, "Concurrency is %d, below 1", c.Concurrency)
	rule(c.Retry.Attempts > 0, "Retry.Attempts is %d, below 1", c.Retry.Attempts)
	rule(c.Retry.Min > 0, "Retry.Min is %v, not above 0", c.Retry.Min)
	rule(c.Retry.Max >= c.Retry.Min, "Retry.Max %v is below Retry.Min %v", c.Retry.Max, c.Retry.Min)
	rule(c.HandlerTimeout >= time.Millisecond, "HandlerTimeout is %v, below 1ms", c.HandlerTimeout)
	rule(c.Drain > 0, "Drain is %v, not above 0", c.Drain)
	rule(c.Window.Records > 0, "Window.Records is %d, below 1", c.Window.Records)
	rule(c.Window.Bytes > 0, "Window.Bytes is %d, below 1", c.Window.Bytes)
	rule(slices.Contains([]PositionMismatch{Rewind, Stop, TrustKafka}, c.PositionMismatch), "PositionMismatch is %q, not %s, %s or %s",
		c.PositionMismatch, Rewind, Stop, TrustKafka)
	rule(c.Observer == nil || newObservers(c.Observer).any(), "Observer, a %T, implements none of the Observer interfaces", c.Observer)
	return errors.Join(errs...)
}
