package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/relay"
)

// transactor delivers exactly once. It owns the clients of the ring; the engine closes it after the first error, and never uses it again.
type transactor struct {
	sink    *Sink
	origin  relay.Origin
	admin   *kgo.Client // for everything but events and watermarks
	ring    []member
	version int16 // of the brokers' transactions

	began   time.Time // when the latest transaction began
	records records
	written offsets
	end     relay.LSN // of the latest watermark
	dead    error     // why nothing more can be published

	report func(relay.Outcome) // nil: nobody is told
}

// Report implements relay.Reporter.
func (p *transactor) Report(ended func(relay.Outcome)) { p.report = ended }

// ReportDead implements relay.DeadReporter.
func (p *transactor) ReportDead(buried func(*relay.Event, *relay.HaltError)) {
	p.records.letters.report = buried
}

// errUncertain is a commit without an answer, or with one that does not tell.
var errUncertain = errors.New("commit, which may have happened")

// ended reports a transaction that transact has ended with err.
func (p *transactor) ended(err error) {
	switch {
	case p.report == nil:
	case err == nil:
		p.report(relay.Committed)
	case errors.Is(err, errUncertain):
		p.report(relay.UnknownOutcome)
	default:
		p.report(relay.Aborted) // here or, where that failed, by the next Open: no commit was asked for
	}
}

const (
	// endTimeout bounds the commit, after which its outcome is unknown. It does not end with the caller's context: that would only make sure that it is.
	endTimeout = transactionTimeout

	// abortTimeout bounds the attempt to abort, without which consumers would wait until the next Open or the brokers do it.
	abortTimeout = 2 * time.Second

	// idleInterval bounds how often a position alone is worth a transaction.
	idleInterval = time.Second
)

// Delivery is relay.ExactlyOnce where the brokers' protocol carries that.
func (p *transactor) Delivery() relay.Delivery {
	if p.version < 2 {
		return relay.Transactional
	}
	return relay.ExactlyOnce
}

// IdleInterval is a second.
func (p *transactor) IdleInterval() time.Duration { return idleInterval }

// Gap is the least time between two transactions.
func (p *transactor) Gap() time.Duration { return p.sink.ring.gap }

// Publish commits events and watermark in one transaction. An error that halts was met before the commit; any other leaves open what was committed.
func (p *transactor) Publish(ctx context.Context, events []relay.Event, w relay.Watermark) error {
	if p.dead != nil {
		return fmt.Errorf("publisher has ended: %w", p.dead)
	}
	p.dead = p.publish(ctx, events, w)
	return p.dead
}

// singlesAtOnce bounds the events of a transaction when some of them are sent one by one, each for the time of a request and its answer.
const singlesAtOnce = 200

// publish commits the events in as many transactions as need be.
func (p *transactor) publish(ctx context.Context, events []relay.Event, w relay.Watermark) error {
	for len(events) > singlesAtOnce && p.records.limits.singly(events) {
		last := &events[singlesAtOnce-1]
		part := relay.Watermark{Timeline: w.Timeline, Position: last.Position, EventID: last.ID(), End: min(p.end, w.End)}
		if err := p.commit(ctx, events[:singlesAtOnce], part); err != nil {
			return err
		}
		events = events[singlesAtOnce:]
	}
	return p.commit(ctx, events, w)
}

// commit is one transaction.
func (p *transactor) commit(ctx context.Context, events []relay.Event, w relay.Watermark) error {
	if err := p.records.take(ctx, p.admin, events); err != nil {
		return err
	}
	mark, err := watermarkRecord(p.sink.cfg.WatermarkTopic, p.origin, len(p.ring), w, p.written)
	if err != nil {
		return err
	}
	if err := p.pace(ctx); err != nil {
		return err
	}
	err = p.transact(ctx, p.sink.ring.next(p.ring, time.Now()), events, mark)
	p.ended(err)
	if err != nil {
		return authentication(explainFenced(p.origin, err))
	}
	p.written.add(p.records.all)
	p.records.arrived(events)
	p.end = w.End
	return nil
}

// pace waits until the next transaction may begin.
func (p *transactor) pace(ctx context.Context) error {
	if wait := p.sink.ring.gap - time.Since(p.began); wait > 0 {
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
	p.began = time.Now()
	return nil
}

// transact is one transaction: all of it, or nothing that counts. The client itself would commit what is left when a record has failed.
func (p *transactor) transact(ctx context.Context, m *member, events []relay.Event, mark *kgo.Record) error {
	client := m.client
	if err := client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	failed, err := p.records.send(ctx, client, mark)
	if err == nil {
		err = p.explain(events, failed)
	}
	if err == nil {
		err = m.met.settle(ctx, client, p.records.all, mark)
	}
	if err != nil {
		return errors.Join(err, abort(ctx, client))
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := client.EndTransaction(ending, kgo.TryCommit); err != nil {
		return fmt.Errorf("%w: %w", errUncertain, err)
	}
	m.ended = time.Now()
	return nil
}

// abort ends a transaction that must not be committed. Open does so again.
func abort(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	err := client.AbortBufferedRecords(ctx)
	if err == nil {
		err = client.EndTransaction(ctx, kgo.TryAbort)
	}
	if err != nil {
		return fmt.Errorf("abort: %w", err)
	}
	return nil
}

// explain classifies a failed record, be it an event or the watermark.
func (p *transactor) explain(events []relay.Event, failed failure) error {
	if failed.err == nil {
		return nil
	}
	if err, ok := p.records.explain(events, failed); ok {
		return err
	}
	return p.sink.store(p.admin, p.origin).classify(fmt.Errorf("write watermark: %w", failed.err))
}

// Close withdraws what has not been sent and disconnects. An open transaction stays open until the next Open, or until the brokers abort it.
func (p *transactor) Close() error {
	for _, m := range p.ring {
		m.client.Close()
	}
	p.admin.Close()
	return nil
}
