package inbox

import (
	"context"
	"time"
)

// Result is how one run of a message ended. The constants are the values of a metric's label.
type Result string

// The results. Every message ends with exactly one of Done, Duplicate, Ignored and Dead, unless it is delivered again before it ends.
const (
	Done          Result = "done"           // applied and committed
	Duplicate     Result = "duplicate"      // its inbox row was there already
	Ignored       Result = "ignored"        // no handler for its event type
	Dead          Result = "dead"           // buried: acknowledged by the dead-letter topic, inbox row written
	Retried       Result = "retried"        // an attempt failed; it will be run again
	ConflictRetry Result = "conflict_retry" // the transaction lost against another and is run again at once
	Held          Result = "held"           // something is out; it will be run again, no attempt was counted
	Cancelled     Result = "cancelled"      // cut off by a drain or a lost partition; it will be delivered again
)

// ResultObserver is told how each run of a message ended. eventType is one that has a handler, or "". It is called by workers,
// concurrently, and must be quick.
type ResultObserver interface {
	MessageResult(topic, eventType string, r Result)
}

// HandlerObserver is told how long each call of a handler took, and its error. It is called by workers, concurrently, and must be quick.
type HandlerObserver interface {
	Handled(m *Message, took time.Duration, err error)
}

// SpanObserver may put a trace span into the context of a handler; the producer's context is in m.TraceParent. end is called when the
// transaction is over, with the error of the attempt. It is called by workers, concurrently.
type SpanObserver interface {
	StartSpan(ctx context.Context, m *Message) (_ context.Context, end func(error))
}

// Lag is how far one partition is behind.
type Lag struct {
	Topic     string
	Partition int32
	Records   int64         // offsets from the frontier to the end of the log as of the last look, some seconds ago; zero while nothing was fetched
	Oldest    time.Duration // age of the record at the frontier; zero when nothing is open
	Gap       int64         // offsets between the frontier and the highest one done: high while only the head is stuck
	Open      int           // records in the window
	Fill      float64       // of the window, from 0 to 1 and a little more
}

// LagObserver is told about all assigned partitions once a second. A partition that is missing from a call is no longer assigned, or it is paused
// and nothing was fetched of it yet, so that nobody knows.
type LagObserver interface {
	Lag(partitions []Lag)
}

// CommitObserver is told about each commit of offsets; err is nil when Kafka took all of them. A failed commit is tried again.
type CommitObserver interface {
	Committed(took time.Duration, err error)
}

// GroupObserver is told about rebalances: the partitions that were assigned, revoked or lost, how many are now held, and how long it took
// to let go of those that went.
type GroupObserver interface {
	Rebalanced(kind Rebalance, partitions, held int, took time.Duration)
}

// Rebalance is one of the three ways in which an assignment changes.
type Rebalance string

// The kinds of a rebalance.
const (
	Assigned Rebalance = "assigned"
	Revoked  Rebalance = "revoked"
	Lost     Rebalance = "lost"
)

// RewindObserver is told when a partition is read again from the position in the database, because Kafka's offset was beyond it.
type RewindObserver interface {
	Rewound(topic string, partition int32, kafka, position int64)
}

// PauseObserver is told when the reading of a partition stops or goes on. reasons is empty when it goes on.
type PauseObserver interface {
	Paused(topic string, partition int32, reasons []string)
}

// observers are the abilities that an Observer turned out to have; the others are nil.
type observers struct {
	result  ResultObserver
	handler HandlerObserver
	span    SpanObserver
	lag     LagObserver
	commit  CommitObserver
	group   GroupObserver
	pause   PauseObserver
	rewind  RewindObserver
}

func newObservers(v any) (o observers) {
	o.result, _ = v.(ResultObserver)
	o.handler, _ = v.(HandlerObserver)
	o.span, _ = v.(SpanObserver)
	o.lag, _ = v.(LagObserver)
	o.commit, _ = v.(CommitObserver)
	o.group, _ = v.(GroupObserver)
	o.pause, _ = v.(PauseObserver)
	o.rewind, _ = v.(RewindObserver)
	return o
}

func (o observers) any() bool { return o != observers{} }

func (o observers) ended(topic, eventType string, r Result) {
	if o.result != nil {
		o.result.MessageResult(topic, eventType, r)
	}
}

func (o observers) handled(m *Message, took time.Duration, err error) {
	if o.handler != nil {
		o.handler.Handled(m, took, err)
	}
}

func (o observers) startSpan(ctx context.Context, m *Message) (context.Context, func(error)) {
	if o.span == nil {
		return ctx, func(error) {}
	}
	return o.span.StartSpan(ctx, m)
}

func (o observers) committed(took time.Duration, err error) {
	if o.commit != nil {
		o.commit.Committed(took, err)
	}
}

func (o observers) rebalanced(kind Rebalance, partitions, held int, took time.Duration) {
	if o.group != nil {
		o.group.Rebalanced(kind, partitions, held, took)
	}
}

func (o observers) rewound(topic string, partition int32, kafka, position int64) {
	if o.rewind != nil {
		o.rewind.Rewound(topic, partition, kafka, position)
	}
}
