package inbox

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// burials is the queue of lanes whose head was given up and is to go to the dead-letter topic. It holds no more than the windows do, each
// lane once.
type burials struct {
	mu    sync.Mutex // protects lanes
	lanes []*lane
	more  chan struct{} // holds one element when there may be a lane
}

func newBurials() *burials { return &burials{more: make(chan struct{}, 1)} }

func (b *burials) add(l *lane) {
	b.mu.Lock()
	if len(b.lanes) == cap(b.lanes) { // in a long outage with many rebalances those of old assignments would pile up
		b.lanes = slices.DeleteFunc(b.lanes, func(l *lane) bool { return l.part.isStopped() })
	}
	b.lanes = append(b.lanes, l)
	b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// take waits for a lane; nil when ctx has ended.
func (b *burials) take(ctx context.Context) *lane {
	for {
		b.mu.Lock()
		if len(b.lanes) > 0 {
			l := b.lanes[0]
			b.lanes[0], b.lanes = nil, b.lanes[1:]
			b.mu.Unlock()
			return l
		}
		b.mu.Unlock()
		select {
		case <-b.more:
		case <-ctx.Done():
			return nil
		}
	}
}

// undertaker is the role that sends dead letters, so that no worker waits for the dead-letter topic and a topic that is out holds up only the
// keys of the dead. One letter of the process is on its way at a time: the client would put several into one batch, and the broker would
// refuse that as too large though each of them fits.
type undertaker struct {
	*run
	sent <-chan error // the result of the letter that is on its way; nil: there is none
}

// buryAll ends with ctx.
func (u *undertaker) buryAll(ctx context.Context) error {
	for l := u.burials.take(ctx); l != nil; l = u.burials.take(ctx) {
		if ctx, it, ok := l.part.begin(ctx, l); ok { // while it is in the queue nobody waits for it, and it may be dropped
			u.bury(ctx, l, it)
		}
	}
	return nil
}

// bury sends a message to the dead-letter topic and waits until that is acknowledged; then a worker writes its inbox row, and only then is it
// done. A crash between the two delivers it again: it is run again from attempt 1 and may be buried a second time, under the same x-dlq-id,
// or succeed, in which case it is both applied and a dead letter. A crash never loses it.
//
// The messages of its key that stand behind it run after it, so a handler may see a later event without an earlier one: the dead letter
// says which.
func (u *undertaker) bury(ctx context.Context, l *lane, it *item) {
	p := l.part
	m, _ := newMessage(it.rec) // what cannot be decoded is what the letter is about
	if err := u.produce(ctx, p, it, m); err != nil {
		if ctx.Err() != nil || p.isStopped() {
			u.ended(p, m.Type, Cancelled)
			p.suspend(l, 0)
			return
		}
		it.holds++
		wait := exponential(u.cfg.Retry.Min, u.cfg.Retry.Max, outageGrowth, it.holds)
		u.log(ctx, slog.LevelError, "dead letter was refused; its partition's offset stands still until it is taken", m,
			"dead_letter_topic", u.cfg.DeadLetterTopic, "retry_in", wait, "error", err)
		u.ended(p, m.Type, Held)
		p.suspend(l, wait)
		return
	}
	it.dead.acked = true
	if p.yield(l) {
		u.sched.push(p, []*lane{l})
		return
	}
	// The partition was stopped meanwhile: no worker takes its lanes any more, but a letter that is out should not go out again.
	out := u.account(ctx, it, m)
	u.ended(p, m.Type, out.result)
	if out.settled {
		u.settle(l)
	} else {
		p.suspend(l, 0)
	}
}

// account writes the inbox row of a message that the dead-letter topic has.
func (r *run) account(ctx context.Context, it *item, m *Message) outcome {
	d := it.dead
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

// produceWait is how long an acknowledgement may take before that is reported, and how long a partition that is stopped waits for it.
const produceWait = 5 * time.Second

// produce sends the dead letter and waits for the acknowledgement. A record that is too large for the topic is sent again with less of our own
// in it. When it gives up because ctx has ended or the partition was stopped, the letter may still arrive.
func (u *undertaker) produce(ctx context.Context, p *partition, it *item, m *Message) error {
	if err := u.acknowledgement(ctx, p, m); u.sent != nil { // of another one, whose partition was given up while it was on its way
		return err
	}
	for {
		result := make(chan error, 1)
		letter := it.dead.record(it, m, u.cfg.Group, u.cfg.DeadLetterTopic)
		u.client.TryProduce(context.WithoutCancel(ctx), letter, func(_ *kgo.Record, err error) { result <- err })
		u.sent = result
		if err := u.acknowledgement(ctx, p, m); err == nil || u.sent != nil || !it.dead.shrink(err) {
			return err
		}
	}
}

// acknowledgement waits for the letter that is on its way and returns what became of it. If it still is on its way afterwards, ctx has ended or the
// partition was stopped, which the error says.
func (u *undertaker) acknowledgement(ctx context.Context, p *partition, m *Message) error {
	if u.sent == nil {
		return nil
	}
	tick := time.NewTicker(produceWait)
	defer tick.Stop()
	for {
		select {
		case err := <-u.sent:
			u.sent = nil
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			u.log(ctx, slog.LevelError, "dead letter is not acknowledged; its partition's offset stands still until it is", m,
				"dead_letter_topic", u.cfg.DeadLetterTopic)
			if p.isStopped() {
				return context.Canceled
			}
			u.ended(p, m.Type, Held)
		}
	}
}
