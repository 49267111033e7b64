package inbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

// outcome is what becomes of a lane's head after a worker had it.
type outcome struct {
	result  Result
	settled bool          // it is done; otherwise it stays the head
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
	if _, handled := r.cfg.Handlers[eventType]; !handled {
		eventType = "" // anybody may invent types, and a metric has a label for each
	}
	r.observe.ended(p.topic, eventType, out.result)
	var again, more, freed bool
	if out.settled {
		more, freed = p.settle(l)
	} else {
		again = p.suspend(l, out.wait) && out.wait == 0
	}
	if state, moved := r.sched.release(l, out.verdict, again); moved {
		r.gateMoved(state, out.err)
	}
	if more {
		r.sched.push(p, []*lane{l})
	}
	if freed {
		r.pauser.sync(p)
	}
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

// process runs the handler, unless the message was given up before, and buries what is given up.
func (r *run) process(ctx context.Context, it *item) (_ outcome, eventType string) {
	m, undecodable := newMessage(it.rec)
	r.warnNameless(ctx, m)
	if it.dead == nil {
		handler := r.cfg.Handlers[m.Type]
		if undecodable != nil { // as a handler it meets the inbox row, so that a redelivery is not buried again
			handler = func(context.Context, pgx.Tx, *Message) error { return Permanent(undecodable, "undecodable") }
		}
		if handler == nil {
			return outcome{result: Ignored, settled: true}, m.Type
		}
		if out := r.attempt(ctx, it, m, handler); it.dead == nil {
			return out, m.Type
		}
	}
	return r.bury(ctx, it, m), m.Type
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

// bury sends a message to the dead-letter topic, waits until that is acknowledged, and writes its inbox row; only then is it done. A crash
// between the two delivers it again: it is run again from attempt 1 and may be buried a second time, under the same x-dlq-id, or succeed,
// in which case it is both applied and a dead letter. A crash never loses it.
//
// The messages of its key that stand behind it run after it, so a handler may see a later event without an earlier one: the dead letter
// says which.
func (r *run) bury(ctx context.Context, it *item, m *Message) outcome {
	d := it.dead
	if !d.acked {
		if err := r.produce(ctx, it, m); err != nil {
			if ctx.Err() != nil {
				return outcome{result: Cancelled}
			}
			it.holds++
			wait := exponential(r.cfg.Retry.Min, r.cfg.Retry.Max, outageGrowth, it.holds)
			r.log(ctx, slog.LevelError, "dead letter was not acknowledged; its partition's offset stands still until it is", m,
				"dead_letter_topic", r.cfg.DeadLetterTopic, "retry_in", wait, "error", err)
			return outcome{result: Held, wait: wait}
		}
		d.acked = true
	}
	if err := r.store.account(ctx, m.id); err != nil {
		if ctx.Err() != nil {
			return outcome{result: Cancelled}
		}
		return r.hold(ctx, it, m, tried{err: err, class: openingClass(err), out: true})
	}
	r.log(ctx, slog.LevelError, "message went to the dead-letter topic", m, "dead_letter_topic", r.cfg.DeadLetterTopic,
		"attempts", it.attempts, "class", d.class, "code", d.code, "error", d.message)
	return outcome{result: Dead, settled: true, verdict: healthy}
}

// produceWait is how long a worker waits for an acknowledgement before it turns to other lanes; the produce itself goes on.
const produceWait = 5 * time.Second

// produce sends the dead letter, or goes on waiting for one that is on its way, so that a slow broker does not multiply it. A record that
// is too large for the topic is sent again with less of our own in it.
func (r *run) produce(ctx context.Context, it *item, m *Message) error {
	d := it.dead
	ctx, cancel := context.WithTimeoutCause(ctx, produceWait, fmt.Errorf("no acknowledgement within %v", produceWait))
	defer cancel()
	for {
		if d.pending == nil {
			var err error
			if d.pending, err = r.send(ctx, d.record(it, m, r.cfg.Group, r.cfg.DeadLetterTopic)); err != nil {
				return err
			}
		}
		select {
		case err := <-d.pending:
			d.pending = nil
			if err == nil || !d.shrink(err) {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// send begins a produce; the channel will have its result. One dead letter of the process is on its way at a time: the client would put
// several into one batch, and the broker would refuse that as too large though each of them fits.
func (r *run) send(ctx context.Context, letter *kgo.Record) (<-chan error, error) {
	select {
	case r.letters <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	result := make(chan error, 1)
	r.client.TryProduce(context.WithoutCancel(ctx), letter, func(_ *kgo.Record, err error) {
		<-r.letters
		result <- err
	})
	return result, nil
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
