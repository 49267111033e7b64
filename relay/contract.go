package relay

import (
	"context"
	"fmt"
	"time"

	"github.com/walpost/walpost/record"
)

// LSN is a position in the write-ahead log.
type LSN = record.LSN

// Position is an event's place in commit order.
type Position = record.Position

// ParseLSN reads PostgreSQL's text form, such as 16/B374D848.
func ParseLSN(s string) (LSN, error) { return record.ParseLSN(s) }

// Event is one committed outbox row, ready to be published. The slices in its Record are never changed after the Source made them; whoever
// keeps one keeps the memory of its neighbours alive with it.
type Event struct {
	Position    Position
	CommittedAt time.Time     // the commit time of its transaction, by the database's clock
	Record      record.Record // without a topic: see Dead
}

// ID is the event's id as text. It allocates. An event without one, which can only be dead, goes by its position.
func (e *Event) ID() string {
	if id := e.Record.ID(); id != "" {
		return id
	}
	return e.Position.String()
}

// Dead is why the event can never be published, nil for every event that has a topic. A Source that was told to hand such a row on makes of it what there
// is of its record, without a topic and with a header record.HeaderDeadMessage that says why. A Sink puts it where dead letters go, or returns the halt.
func (e *Event) Dead() *HaltError {
	if e.Record.Topic != "" {
		return nil
	}
	why := "it has no topic"
	for _, h := range e.Record.Headers {
		if h.Key == record.HeaderDeadMessage {
			why = string(h.Value)
		}
	}
	return &HaltError{
		Cause: Unpublishable, From: e.Position.Commit, Err: fmt.Errorf("event %s at position %s: %s", e.ID(), e.Position, why),
		Hint: "give the sink a DeadLetterTopic, or the source no DeadLetters: then it halts itself, behind everything before the row",
	}
}

// TraceParent is the W3C trace context of the transaction that appended the event, nil when it has none.
func (e *Event) TraceParent() []byte {
	for i := range e.Record.Headers {
		if e.Record.Headers[i].Key == record.HeaderTraceParent {
			return e.Record.Headers[i].Value
		}
	}
	return nil
}

// Batch is consecutive events in commit order.
type Batch struct {
	// Events may be empty: then only the position moved, because the database wrote what does not concern the outbox.
	Events []Event

	// End is the position up to which every event is in this batch or in one before it, so that it may be confirmed when this batch is
	// published. Zero: the batch ends inside a transaction, and there is nothing to confirm yet.
	End LSN

	// Since is when the first event was committed, by this process's clock, as nearly as the Source can tell. Zero: it cannot, or there is no event.
	Since time.Time
}

// Watermark is the highest event that a Sink holds. The zero value is none.
type Watermark struct {
	Timeline int32 // that the positions belong to; zero: unknown
	Position Position
	EventID  string // guards against a log that was rewound: at this position there must be this event
	End      LSN    // highest position up to which everything was published; zero: unknown
}

// Origin says where a stream comes from. Positions of two origins cannot be compared.
type Origin struct {
	SystemID  string // of the database cluster, made by initdb
	Timeline  int32  // changes when a standby is promoted
	Forks     []Fork // the timelines that came before, where the Source knows them
	Slot      string
	Confirmed LSN // where the slot stands: everything below was confirmed before

	// Fresh says that nothing was ever confirmed through the slot, as far as the database knows: a Sink without a watermark begins here.
	Fresh bool
}

// Source opens streams of committed events. Open takes hold of the slot; at most one stream of a Source is open at a time.
//
// Open and Stream.Next report a cause that no retry mends as *HaltError, and a slot that is held by somebody else as ErrStandby. Every other
// error is taken for passing.
type Source interface {
	Open(ctx context.Context) (Stream, error)
}

// Stream hands out events in commit order, beginning right after Origin.Confirmed.
//
// Next and Confirm are called from one goroutine. While the engine publishes, the stream goes on receiving into a queue of bounded size; that
// is what keeps both ends busy.
type Stream interface {
	// Origin is fixed when the stream is opened.
	Origin() Origin

	// Next waits for the next batch. What it returns is valid until the next call of Next, and the bytes in it for ever.
	Next(ctx context.Context) (Batch, error)

	// Confirm says that everything up to end is published. It does not wait for the network. Positions never go back; one that the stream has
	// not handed out as Batch.End is a broken invariant and ends the stream.
	Confirm(end LSN)

	// Close sends the last confirmed position and lets go of the slot. The stream is unusable after it.
	Close() error
}

// Gatherer is a Stream that can tell when waiting makes a batch no larger.
type Gatherer interface {
	// Gather returns when a full batch is ready for Next, or when it is until, or when the stream or ctx has ended. It is called from the goroutine of
	// Next.
	Gather(ctx context.Context, until time.Time)
}

// Sink opens publishers.
type Sink interface {
	// Open first shuts out every earlier publisher of the same origin, if the Sink can, and then reads the watermark. A Sink that keeps none
	// returns the zero Watermark.
	Open(ctx context.Context, o Origin) (Publisher, Watermark, error)
}

// Preparer is a Source or a Sink with something to do before the Source is opened: the Source is prepared first, then the Sink. So a slot is made
// although the Sink is away, and is not read from until the Sink can be opened.
type Preparer interface {
	// Prepare returns nil when the other can go on. It is called before each Open.
	Prepare(ctx context.Context) error
}

// Publisher puts events where they are read. It is used from one goroutine.
type Publisher interface {
	// Publish returns nil when all events are durable, in order within each key, and w with them if the Sink keeps a watermark. Any other
	// outcome is an error, after which nothing is assumed and the Publisher is closed. events may be empty: then only w moved. The slice is not
	// kept after Publish returns, and its bytes not after Close. An event that is Dead is not published; see there.
	Publish(ctx context.Context, events []Event, w Watermark) error

	Close() error
}

// Spacer is a Publisher that does better with fewer and larger batches.
type Spacer interface {
	// Gap is the least time between the beginnings of two calls of Publish. The engine lets events gather meanwhile.
	Gap() time.Duration
}

// Keeper is a Publisher that keeps the watermark durably.
type Keeper interface {
	// Delivery is what the Publisher promises at present.
	Delivery() Delivery

	// IdleInterval is the least time between two calls of Publish without events. Positions that come sooner are held back, and confirmed later.
	IdleInterval() time.Duration
}

// Reporter is a Publisher that publishes in transactions and says how they end.
type Reporter interface {
	// Report makes the Publisher call ended at the end of each transaction from now on, from within Publish.
	Report(ended func(Outcome))
}

// DeadReporter is a Publisher that makes dead letters, and says of which events.
type DeadReporter interface {
	// ReportDead makes the Publisher call buried for each event whose dead letter was acknowledged, from now on, from within Publish.
	ReportDead(buried func(ev *Event, why *HaltError))
}

// Outcome is how a transaction ended, as far as the Publisher knows.
type Outcome int

// The outcomes.
const (
	Committed      Outcome = iota + 1
	Aborted                // nothing of it counts
	UnknownOutcome         // the answer to the commit did not come; the next Open finds out
)

// String is the outcome's name in metrics.
func (o Outcome) String() string {
	switch o {
	case Committed:
		return "committed"
	case Aborted:
		return "aborted"
	case UnknownOutcome:
		return "unknown"
	}
	return fmt.Sprintf("Outcome(%d)", int(o))
}

// Delivery is how often a consumer that reads committed records sees an event. The zero value is ExactlyOnce.
type Delivery int

// The deliveries.
const (
	ExactlyOnce Delivery = iota

	// Transactional is meant to be exactly once, on brokers whose protocol may tear or lose a transaction when a message of it is late.
	Transactional

	AtLeastOnce
)

// String is the delivery's name in flags, logs and metrics.
func (d Delivery) String() string {
	switch d {
	case ExactlyOnce:
		return "exactly-once"
	case Transactional:
		return "transactional"
	case AtLeastOnce:
		return "at-least-once"
	}
	return "unknown"
}
