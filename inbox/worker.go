package inbox

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// outcome is what becomes of a lane's head after a worker had it.
type outcome struct {
	result  Result
	settled bool          // it is done; otherwise it stays the head
	bury    bool          // the undertaker gets the lane; there is no result yet
	wait    time.Duration // until it is ready again; zero: at once
	verdict verdict
	err     error // of an outage
}

// work is the role of a worker.
func (r *run) work(ctx context.Context) error {
	for {
		l := r.sched.take()
		if l == nil {
			return nil
		}
		r.serve(ctx, l)
	}
}

// serve runs the head of a lane once and puts the lane where it belongs.
func (r *run) serve(ctx context.Context, l *lane) {
	p := l.part
	ctx, it, ok := p.begin(ctx, l)
	if !ok {
		r.sched.release(l, neutral, false)
		return
	}
	out, eventType := r.process(ctx, it)
	var again bool
	switch {
	case out.bury:
		if p.suspend(l, 0) {
			r.burials.add(l)
		}
	default:
		r.ended(p, eventType, out.result)
		again = !out.settled && p.suspend(l, out.wait) && out.wait == 0
	}
	if state, moved := r.sched.release(l, out.verdict, again); moved {
		r.gateMoved(state, out.err)
	}
	if out.settled {
		r.settle(l)
	}
}

// settle counts the head of a lane as done and lets what stands behind it go on.
func (r *run) settle(l *lane) {
	more, freed := l.part.settle(l)
	if more {
		r.sched.push(l.part, []*lane{l})
	}
	if freed {
		r.pauser.sync(l.part)
	}
}

// ended reports a result.
func (r *run) ended(p *partition, eventType string, result Result) {
	if _, handled := r.cfg.Handlers[eventType]; !handled {
		eventType = "" // anybody may invent types, and a metric has a label for each
	}
	r.observe.ended(p.topic, eventType, result)
}

// gateMoved tells an operator, and the partitions, about the database.
func (r *run) gateMoved(state gateState, err error) {
	switch {
	case state.Shut:
		r.cfg.Logger.Warn("database is out: nothing is run, no attempt is counted", "outages", state.Failures, "probe_in", state.Wait, "error", err)
	case state.Failures == 0:
		r.cfg.Logger.Info("database is back")
	}
	r.pauser.sync(r.held()...)
}

// process runs the handler, unless the message was given up before: then it is buried, by the undertaker and, when the dead-letter topic has
// it, by writing its inbox row.
func (r *run) process(ctx context.Context, it *item) (_ outcome, eventType string) {
	m, undecodable := newMessage(it.rec)
	r.warnNameless(ctx, m)
	if it.dead == nil {
		handler := r.cfg.Handlers[m.Type]
		if undecodable != nil { // as a handler it meets the inbox row, so that a redelivery is not buried again
			handler = func(context.Context, pgx.Tx, *Message) error { return Permanent(undecodable, CodeUndecodable) }
		}
		if handler == nil {
			return outcome{result: Ignored, settled: true}, m.Type
		}
		if out := r.attempt(ctx, it, m, handler); it.dead == nil {
			return out, m.Type
		}
		return outcome{bury: true, verdict: healthy}, m.Type // healthy, since the database let the handler begin
	}
	if !it.dead.acked {
		return outcome{bury: true}, m.Type
	}
	return r.account(ctx, it, m), m.Type
}

// attempt runs the handler once. When that was the last time, it.dead is set.
func (r *run) attempt(ctx context.Context, it *item, m *Message, handler TxHandler) outcome {
	m.Attempt, m.FirstFailedAt = it.attempts+1, it.firstFailed
	t := r.store.apply(ctx, m, handler)
	switch {
	case t.err == nil && t.fresh:
		return outcome{result: Done, settled: true, verdict: healthy}
	case t.err == nil:
		return outcome{result: Duplicate, settled: true, verdict: healthy}
	case ctx.Err() != nil: // drained or lost; whatever the handler made of it is no attempt
		return outcome{result: Cancelled}
	case t.class == classSystemic, t.class == classConflict && !t.ran:
		return r.hold(ctx, it, m, t)
	}
	it.attempts++
	if it.firstFailed.IsZero() {
		it.firstFailed = time.Now()
	}
	if t.class == classPermanent || it.attempts >= r.cfg.Retry.Attempts {
		it.dead = newDeadLetter(t.err)
		return outcome{}
	}
	out := outcome{result: Retried, wait: r.cfg.Retry.delay(it.attempts, jitter()), verdict: healthy}
	r.log(ctx, slog.LevelWarn, "handler failed, its key waits", m, "attempt", it.attempts, "retry_in", out.wait, "error", t.err)
	return out
}

// hold puts off a message that is not to blame. If the consumer's own database is out the gate does the waiting, for all lanes together.
func (r *run) hold(ctx context.Context, it *item, m *Message, t tried) outcome {
	if t.out && t.class == classSystemic {
		return outcome{result: Held, verdict: outage, err: t.err}
	}
	it.holds++
	wait := exponential(r.cfg.Retry.Min, r.cfg.Retry.Max, outageGrowth, it.holds)
	r.log(ctx, slog.LevelWarn, "message is held until what it needs is back; no attempt is counted", m,
		"holds", it.holds, "retry_in", wait, "error", t.err)
	out := outcome{result: Held, wait: wait}
	if t.ran { // hence the database let us begin
		out.verdict = healthy
	}
	return out
}

func (r *run) log(ctx context.Context, level slog.Level, text string, m *Message, args ...any) {
	about := r.cfg.Logger.With("topic", m.Topic, "partition", m.Partition, "offset", m.Offset, "event_id", m.ID, "event_type", m.Type)
	about.Log(ctx, level, text, args...)
}

// warnNameless says once a topic that its records have no id.
func (r *run) warnNameless(ctx context.Context, m *Message) {
	if m.named {
		return
	}
	if _, said := r.nameless.LoadOrStore(m.Topic, true); !said {
		r.log(ctx, slog.LevelWarn, "records without header id: topic, partition and offset stand in, "+
			"which recognises a redelivery but not an event that was published twice", m)
	}
}
