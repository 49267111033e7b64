package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/record"
)

// TransformFunc makes records of one message: none, one or several, which are published in the order given. They may share bytes with m,
// which must not be changed. The message may be any record: where it is no outbox event, m.Message has nothing but an ID.
//
// It must be quick and a pure function of m: it is called again for messages whose transaction was aborted, and whatever it does besides may
// happen more than once. An error of Permanent sends the message to the dead-letter topic instead, in the same transaction. Any other error,
// and a panic, makes the whole batch wait and be tried again, for as long as it lasts: nothing is passed over, and the order stays. ctx ends
// when the transformer's time to drain is over.
type TransformFunc func(ctx context.Context, m *Message) ([]record.Record, error)

// TransformConfig says what a Transformer reads and how. Brokers, Group, Topics and Transform are required; the zero value of every other
// field is its default.
type TransformConfig struct {
	// Brokers are the addresses, host:port, of some brokers of the cluster. ClientOptions may name them instead.
	Brokers []string

	// ClientOptions go to the Kafka client before the options that the guarantee rests on, which win. TLS, SASL, timeouts, compression and
	// ProducerBatchMaxBytes can be set here. Defaults to none.
	ClientOptions []kgo.Opt

	// Group is the consumer group, and the beginning of the transactional ids: the user needs the right to write to those that begin with
	// it. Renaming it makes a new group, which reads the topics from the beginning and publishes everything again.
	Group string

	// Topics are the topics to read, by their exact names. No record may be published to one of them.
	Topics []string

	// Transform is called for each message, by one goroutine.
	Transform TransformFunc

	// InstanceID names this member of the group for good, across restarts; two that run must not share it. Started again after a crash it
	// takes its partitions back and ends the crashed one's transaction at once. Without it both wait for a time-out, and until then
	// read_committed consumers of the partitions that the transaction touched stand still. Defaults to none.
	InstanceID string

	// DeadLetterTopic gets the messages that were given up. It must exist and must not be compacted. Defaults to
	// "eventdriven-examples.dlq".
	DeadLetterTopic string

	// CreateTopics creates topics that records go to and that are missing, with the brokers' default number of partitions and replicas.
	// Defaults to false: a missing topic is waited for, because a misspelt name would otherwise make one.
	CreateTopics bool

	// Batch is the largest number of messages of one transaction, which also has what was fetched at most, 8 MiB a broker unless
	// ClientOptions say otherwise. It shrinks by itself while batches take long. Defaults to 1,000.
	Batch int

	// TransactionTimeout is how long the broker leaves a transaction open whose owner is gone. A batch that takes longer is begun anew.
	// Defaults to 15 s.
	TransactionTimeout time.Duration

	// RetryMin and RetryMax bound the wait after a failure, which doubles from one to the next. Default to 200 ms and 30 s.
	RetryMin, RetryMax time.Duration

	// Drain is how long the batch at hand may take when the transformer is stopped. Defaults to 25 s.
	Drain time.Duration

	// Logger gets what an operator should see; never payloads. Defaults to none.
	Logger *slog.Logger

	// Observer is told what happens; it implements one or more of TransactionObserver, LagObserver and GroupObserver. Defaults to none.
	Observer any
}

func (c TransformConfig) withDefaults() TransformConfig {
	c.DeadLetterTopic = cmp.Or(c.DeadLetterTopic, defaultDeadLetterTopic)
	c.Batch = cmp.Or(c.Batch, 1000)
	c.TransactionTimeout = cmp.Or(c.TransactionTimeout, 15*time.Second)
	c.RetryMin = cmp.Or(c.RetryMin, 200*time.Millisecond)
	c.RetryMax = cmp.Or(c.RetryMax, 30*time.Second)
	c.Drain = cmp.Or(c.Drain, 25*time.Second)
	c.Topics = slices.Clone(c.Topics)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate lists every rule, on a TransformConfig with defaults.
func (c TransformConfig) validate() error {
	var errs []error
	rule := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	rule(len(c.Brokers) > 0 || len(c.ClientOptions) > 0, "Brokers is empty")
	rule(c.Group != "", "Group is empty")
	rule(len(c.Topics) > 0, "Topics is empty")
	rule(!slices.Contains(c.Topics, ""), "Topics has an empty name")
	rule(!slices.Contains(c.Topics, c.DeadLetterTopic),
		"DeadLetterTopic %q is one of Topics: a dead letter would be read, and buried, for ever", c.DeadLetterTopic)
	rule(c.Transform != nil, "Transform is nil")
	rule(c.Batch > 0, "Batch is %d, below 1", c.Batch)
	rule(c.TransactionTimeout >= time.Second, "TransactionTimeout is %v, below 1s", c.TransactionTimeout)
	rule(c.RetryMin > 0, "RetryMin is %v, not above 0", c.RetryMin)
	rule(c.RetryMax >= c.RetryMin, "RetryMax %v is below RetryMin %v", c.RetryMax, c.RetryMin)
	rule(c.Drain > 0, "Drain is %v, not above 0", c.Drain)
	rule(c.Observer == nil || newTransformObservers(c.Observer).any(),
		"Observer, a %T, implements none of TransactionObserver, LagObserver and GroupObserver", c.Observer)
	return errors.Join(errs...)
}

// Transformer makes records of messages, from Kafka to Kafka: what is published and how far the messages were read is committed in one
// transaction, so that each message has its effect exactly once for whoever reads with read_committed, whatever is killed and whenever.
// Several, in one process or in many, share the work of a group. It has no database; a handler that needs one belongs to a Consumer.
type Transformer struct {
	cfg           TransformConfig
	transactional string // the id of its transactions, the same for each of its clients, so that a new one fences the one before
	most          int    // messages of a batch, Run's own; shrinks while batches take long or fail, whatever client they had
	started       atomic.Bool
	stopping      atomic.Bool
	joined        atomic.Pointer[error] // nil inside: it takes part in its group
	trouble       atomic.Pointer[error] // nil inside: the last batch did not fail
}

var (
	errTransformerIdle     = errors.New("inbox: the transformer is not running")
	errTransformerUnjoined = errors.New("inbox: the transformer has not joined its group yet")
	errTransformerStopping = errors.New("inbox: the transformer is stopping")
)

// NewTransformer makes a transformer. It connects to nothing. The error lists everything that is wrong with the configuration.
func NewTransformer(cfg TransformConfig) (*Transformer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	t := &Transformer{cfg: cfg, most: cfg.Batch, transactional: cfg.Group + "/" + cmp.Or(cfg.InstanceID, outbox.NewID().String())}
	t.setJoined(errTransformerIdle)
	t.setTrouble(nil)
	return t, nil
}

// Ready reports whether the transformer does its work: nil from the first assignment, even an empty one, until it is lost, a batch fails or
// the transformer stops. It may be called at any time from any goroutine.
func (t *Transformer) Ready() error {
	joined := *t.joined.Load()
	switch {
	case t.stopping.Load() && !errors.Is(joined, errTransformerIdle):
		return errTransformerStopping
	case joined != nil:
		return joined
	}
	return *t.trouble.Load()
}

func (t *Transformer) setJoined(err error)  { t.joined.Store(&err) }
func (t *Transformer) setTrouble(err error) { t.trouble.Store(&err) }

// Run transforms until ctx ends. It then finishes the batch at hand (TransformConfig.Drain), leaves the group and returns nil; an error says
// that the batch was cut off. Either way nothing is lost or doubled.
//
// Run also returns an error for what a further try would not mend: a committed offset that is not in the log any more, a truncated or deleted
// topic, a refused authorization of the group or the transactional id, another process that runs under the same InstanceID. The process should then end. A broker
// that cannot be reached, a topic that is missing and a failing TransformFunc are waited for. Run can be called once.
func (t *Transformer) Run(ctx context.Context) error {
	if !t.started.CompareAndSwap(false, true) {
		return errors.New("inbox: Run was called before; make a new Transformer")
	}
	defer t.setJoined(errTransformerIdle)
	working, release := context.WithCancelCause(context.WithoutCancel(ctx))
	defer release(nil)
	defer context.AfterFunc(ctx, func() {
		t.stopping.Store(true)
		select {
		case <-time.After(t.cfg.Drain):
			release(errDrained)
		case <-working.Done():
		}
	})()
	for failures := 0; ctx.Err() == nil; {
		carried, err := t.session(ctx, working)
		if end, ok := errors.AsType[*endError](err); ok {
			return fmt.Errorf("inbox: transformer %q: %w", t.cfg.Group, end.err)
		}
		if context.Cause(working) != nil {
			return fmt.Errorf("inbox: transformer %q: its last batch was not finished after %v and was cut off; it will be read again: %w",
				t.cfg.Group, t.cfg.Drain, cmp.Or(err, errDrained))
		}
		if err == nil {
			continue // ctx has ended
		}
		if carried {
			failures = 0
		}
		failures++
		t.pause(ctx, failures, "transactions are begun anew with another client", err)
	}
	return nil
}

var errDrained = errors.New("the time to drain is over")

// endError ends Run.
type endError struct{ err error }

func (e *endError) Error() string { return e.err.Error() }
func (e *endError) Unwrap() error { return e.err }

// pause waits after the n-th failure in a row, or until ctx ends.
func (t *Transformer) pause(ctx context.Context, n int, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	t.setTrouble(fmt.Errorf("inbox: %w", err))
	wait := exponential(t.cfg.RetryMin, t.cfg.RetryMax, outageGrowth, n)
	args := []any{"group", t.cfg.Group, "failures", n, "retry_in", wait, "error", err}
	if p, ok := errors.AsType[*panicError](err); ok {
		args = append(args, "stack", string(p.stack))
	}
	t.cfg.Logger.Warn(what, args...)
	_ = pause(ctx, wait) // the caller looks at ctx
}
