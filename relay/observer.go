package relay

import (
	"context"
	"time"
)

// State is what a relay is doing.
type State int

// The states. A relay that is standing by is healthy.
const (
	StateStarting  State = iota + 1 // before the first stream
	StateStreaming                  // connected at both ends
	StateStalled                    // the Sink has not acknowledged a batch for Config.StallAfter; the relay waits for it
	StateStandby                    // another relay holds the slot; this one waits for it
	StateRetrying                   // a connection was lost or could not be made
	StateHalted                     // ended by a *HaltError
	StateStopped                    // ended because its context did
)

// String is the state's name in logs and metrics.
func (s State) String() string {
	switch s {
	case StateStarting:
		return "starting"
	case StateStreaming:
		return "streaming"
	case StateStalled:
		return "stalled"
	case StateStandby:
		return "standby"
	case StateRetrying:
		return "retrying"
	case StateHalted:
		return "halted"
	case StateStopped:
		return "stopped"
	}
	return "unknown"
}

// Observer is told what the relay does. Calls come one at a time, and hold Run up while they last.
//
// An Observer that wants to know more implements some of PublishObserver, WaitObserver, SpanObserver, ConfirmObserver, SkipObserver,
// TransactionObserver, DeadLetterObserver and DeliveryObserver as well.
type Observer interface {
	// StateChanged is called when the state changes, and for each attempt while it is StateRetrying. cause is the error that led there, or nil.
	StateChanged(s State, cause error)
}

// PublishObserver is told of published events.
type PublishObserver interface {
	// Published is called after the Sink has acknowledged events, of which there is at least one, dead letters included. They must not be kept.
	Published(events []Event, took time.Duration)
}

// WaitObserver is told of events that wait for the Sink.
type WaitObserver interface {
	// Waiting is called when events, of which there is at least one, are about to be given to the Sink, and anew when they are given to it again
	// after an error. What comes behind them waits too, and is younger. They must not be kept.
	Waiting(events []Event)
}

// SpanObserver stands around the publishing of a batch, for traces.
type SpanObserver interface {
	// StartSpan is called before events, of which there is at least one, are given to the Sink, which gets the context that it returns; the function
	// that it returns is called when the Sink is done, with the error that there was. The events must not be kept.
	StartSpan(ctx context.Context, events []Event) (context.Context, func(error))
}

// ConfirmObserver is told of positions confirmed to the Source.
type ConfirmObserver interface {
	Confirmed(end LSN)
}

// SkipObserver is told how many events were not published because they were at or below the Sink's watermark.
type SkipObserver interface {
	Skipped(n int)
}

// TransactionObserver is told how the transactions of a Sink end that publishes in such; see Reporter.
type TransactionObserver interface {
	TransactionEnded(o Outcome)
}

// DeadLetterObserver is told of events that can never be published and became dead letters; see DeadReporter. It is told before they are Published, with
// their neighbours.
type DeadLetterObserver interface {
	DeadLettered(ev *Event, why *HaltError)
}

// DeliveryObserver is told which delivery is in force, at the start of each session: the brokers may have changed in between.
type DeliveryObserver interface {
	Delivering(d Delivery)
}

// tell calls the Observer, if it is one of that kind. While the relay stalls there are two who would.
func tell[O any](r *run, call func(O)) {
	if o, ok := r.cfg.Observer.(O); ok {
		r.telling.Lock()
		defer r.telling.Unlock()
		call(o)
	}
}

func (r *run) observe(s State, cause error) {
	tell(r, func(o Observer) { o.StateChanged(s, cause) })
}

func (r *run) observePublished(events []Event, took time.Duration) {
	if len(events) > 0 {
		tell(r, func(o PublishObserver) { o.Published(events, took) })
	}
}

func (r *run) observeWaiting(events []Event) {
	if len(events) > 0 {
		tell(r, func(o WaitObserver) { o.Waiting(events) })
	}
}

func (r *run) startSpan(ctx context.Context, events []Event) (context.Context, func(error)) {
	ended := func(error) {}
	if len(events) > 0 {
		tell(r, func(o SpanObserver) { ctx, ended = o.StartSpan(ctx, events) })
	}
	return ctx, func(err error) { tell(r, func(SpanObserver) { ended(err) }) }
}

func (r *run) observeConfirmed(end LSN) {
	tell(r, func(o ConfirmObserver) { o.Confirmed(end) })
}

func (r *run) observeSkipped(n int) {
	if n > 0 {
		tell(r, func(o SkipObserver) { o.Skipped(n) })
	}
}

// observePublisher lets the Publisher tell what it alone knows.
func (r *run) observePublisher(p Publisher) {
	if reporter, ok := p.(Reporter); ok {
		reporter.Report(func(ended Outcome) { tell(r, func(o TransactionObserver) { o.TransactionEnded(ended) }) })
	}
	if undertaker, ok := p.(DeadReporter); ok {
		undertaker.ReportDead(func(ev *Event, why *HaltError) { tell(r, func(o DeadLetterObserver) { o.DeadLettered(ev, why) }) })
	}
}

func (r *run) observeDelivery(d Delivery) {
	tell(r, func(o DeliveryObserver) { o.Delivering(d) })
}
