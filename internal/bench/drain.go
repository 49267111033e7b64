package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// backlog is what every drain drains: written once, kept in the log by a slot that nobody reads, and read from a copy of that slot.
type backlog struct {
	slot   string
	prefix string
	until  string // position
	rows   int
	stall  time.Duration // how long nothing may come
}

// writeBacklog writes rows with one of the fill statements; what says for a person what that makes.
func (w *world) writeBacklog(ctx context.Context, slot, what, statement string, rows int) (backlog, error) {
	b := backlog{slot: slot, prefix: idPrefix(time.Now(), 0), rows: rows, stall: stallLimit}
	if _, err := w.pool.Exec(ctx, `select pg_create_logical_replication_slot($1, 'pgoutput')`, b.slot); err != nil {
		return backlog{}, err
	}
	began := time.Now()
	w.say("writing "+what, count(rows))
	var err error
	b.until, err = w.fill(ctx, fmt.Sprintf(statement, b.prefix, rows))
	w.say("  written in %.1f s", time.Since(began).Seconds())
	return b, err
}

// lane gives a contestant a copy of the backlog's slot, which stands where that one does.
func (b backlog) lane(ctx context.Context, w *world, name string) (lane, error) {
	l := lane{name: name, slot: slotName(name), topic: name + ".${event_type}"}
	_, err := w.pool.Exec(ctx, `select pg_copy_logical_replication_slot($1, $2)`, b.slot, l.slot)
	if err != nil {
		return lane{}, fmt.Errorf("copy slot %s: %w", b.slot, err)
	}
	return l, nil
}

// drain has the contestant carry the whole backlog once.
func (w *world) drain(ctx context.Context, c contestant, b backlog, name string) (d Drain, err error) {
	l, err := b.lane(ctx, w, name)
	if err != nil {
		return Drain{}, err
	}
	tally := newTally(b.prefix, b.rows)
	var atFirst usage
	m := newMeter()
	r, err := w.begin(ctx, c, l, eventType, m, into(tally, func() { atFirst = m.mark(ctx) }))
	if err != nil {
		return Drain{}, err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	if err := tally.await(ctx, b.rows, b.stall, r.carrier.trouble); err != nil {
		return Drain{}, err
	}
	atLast := m.mark(ctx)
	if err := r.finish(ctx); err != nil {
		return Drain{}, err
	}
	d = Drain{Contestant: c.about().Name, Count: tally.result(b.rows)}
	d.Start, d.Rows, d.Seconds = timed(tally, r.began)
	d.Rate = round(float64(d.Rows)/d.Seconds, 0)
	d.Use = m.between(atFirst, atLast)
	return d, nil
}

// timed is from the first fetch on, without its events. A backlog that came in one fetch, or nearly, has nothing behind it to time: it is timed from the
// contestant's start.
func timed(t *tally, start time.Time) (toFirst float64, rows int, seconds float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rows, began := t.distinct-t.firstFetch, t.first
	if rows < t.firstFetch {
		rows, began = t.distinct, start
	}
	return round(t.first.Sub(start).Seconds(), 3), rows, max(round(t.latest.Sub(began).Seconds(), 4), 0.0001)
}

// run is a contestant at work on its lane, watched by consumer and meter.
type run struct {
	world     *world
	lane      lane
	topic     string
	began     time.Time
	carrier   carrier
	observer  *observer
	stopMeter func()
	stopped   bool
}

// begin makes the lane's topic, begins to observe it and starts the contestant.
func (w *world) begin(ctx context.Context, c contestant, l lane, event string, m *meter, sink recordSink) (_ *run, err error) {
	r := &run{world: w, lane: l, topic: l.topicOf(event), stopMeter: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.end(ctx))
		}
	}()
	if err := w.createTopics(ctx, r.topic); err != nil {
		return nil, err
	}
	if r.observer, err = w.observe(ctx, r.topic, sink); err != nil {
		return nil, err
	}
	w.watchServers(m, l.slot)
	// A worker is there before its connector, which may bring events before it counts as started: it has to be watched from before.
	var pid atomic.Int64
	if on, ok := c.(needsWorker); ok {
		pid.Store(int64(w.workers[on.worker()].PID()))
	}
	m.watch(ProcessRelay, func(context.Context) []int { return []int{int(pid.Load())} })
	r.stopMeter = m.start(ctx)
	r.began = time.Now()
	if r.carrier, err = c.start(ctx, w, l); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	pid.Store(int64(r.carrier.pid()))
	return r, nil
}

// finish stops the contestant and reads what it has left in the topic.
func (r *run) finish(ctx context.Context) error {
	r.stopped = true
	if err := r.carrier.stop(ctx); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return r.observer.readOut(ctx)
}

// end takes everything of the lane away, however far the run has come; when ctx has ended only what would outlive the servers, which go next.
func (r *run) end(ctx context.Context) error {
	var errs []error
	over := ctx.Err() != nil
	ctx = context.WithoutCancel(ctx)
	r.stopMeter()
	if r.carrier != nil && !r.stopped {
		errs = append(errs, r.carrier.stop(ctx))
	}
	if r.observer != nil {
		errs = append(errs, r.observer.close())
	}
	if !over {
		errs = append(errs, r.world.deleteTopic(ctx, r.topic), r.world.dropSlot(ctx, r.lane.slot))
	}
	return errors.Join(errs...)
}
