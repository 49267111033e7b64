package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// session opens both ends, relays until something ends it, and closes them. It returns the reason, which is ctx's error when ctx ended it.
//
// The source is opened first and closed last: it holds the slot, so that no other relay publishes while the sink shuts out its predecessor
// and reads the watermark, nor while our own publisher may still send.
func (r *run) session(ctx context.Context) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	stream, err := r.source.Open(ctx)
	if err != nil {
		return fmt.Errorf("open source: %w", err)
	}
	defer r.closing("source", stream.Close)
	origin := stream.Origin()
	r.baseline(origin)
	publisher, watermark, err := r.sink.Open(ctx, origin)
	if err != nil {
		return fmt.Errorf("open sink: %w", err)
	}
	defer r.closing("sink", publisher.Close)
	if watermark, err = r.check(origin, watermark); err != nil {
		return err
	}
	source := &paced{stream: stream, spacing: spacingOf(publisher)}
	r.delivery = AtLeastOnce
	if keeper, ok := publisher.(Keeper); ok {
		r.delivery, source.every = keeper.Delivery(), keeper.IdleInterval()
	}
	r.observeDelivery(r.delivery)
	r.observePublisher(publisher)
	r.enter(StateStreaming, nil)
	began := time.Now()
	watermark.Timeline = origin.Timeline
	err = r.pump(ctx, source, publisher, newFloor(watermark, origin))
	if time.Since(began) > r.cfg.BackoffMax {
		r.failures = 0
	}
	return err
}

func (r *run) prepare(ctx context.Context) error {
	if source, ok := r.source.(Preparer); ok {
		if err := source.Prepare(ctx); err != nil {
			return fmt.Errorf("prepare source: %w", err)
		}
	}
	if sink, ok := r.sink.(Preparer); ok {
		if err := sink.Prepare(ctx); err != nil {
			return fmt.Errorf("prepare sink: %w", err)
		}
	}
	return nil
}

// locate gives a halt the place that this run had got to, where it has none: what is gone cannot say it.
func (r *run) locate(halt *HaltError) {
	if halt.From == 0 && r.holds {
		halt.From = r.confirmed
	}
}

func (r *run) closing(what string, closeFn func() error) {
	if err := closeFn(); err != nil {
		r.cfg.Logger.Debug("relay could not close an end cleanly", "end", what, "error", err)
	}
}

// baseline remembers how the slot stood when this run took hold of it, whatever becomes of the session: from then on nobody else may move it.
func (r *run) baseline(o Origin) {
	if r.holds {
		return
	}
	if r.origin.SystemID == "" {
		r.origin = o
	}
	r.holds, r.origin.Timeline, r.confirmed = true, o.Timeline, o.Confirmed
	r.sent = Position{Commit: max(o.Confirmed, 1) - 1} // what was published before lies below the slot, or comes again
}

// check compares the origin with the one before and with what was published, before anything is published. It returns the watermark as it holds on the
// origin's timeline.
func (r *run) check(o Origin, w Watermark) (Watermark, error) {
	if o.SystemID != r.origin.SystemID {
		return w, &HaltError{
			Cause: IdentityChanged, From: r.confirmed, To: o.Confirmed,
			Err:  fmt.Errorf("the database is system %s, it was system %s when this relay started", o.SystemID, r.origin.SystemID),
			Hint: o.SlotCommand("status") + "; start the relay again if the new server is the right one",
		}
	}
	before := w // the watermark knows of relays that took over for a while
	if w == (Watermark{}) {
		before.Position = r.sent
	}
	before.Timeline, before.End = cmp.Or(w.Timeline, r.origin.Timeline), cmp.Or(w.End, r.confirmed)
	now, err := o.CarryOver(before)
	var halt *HaltError
	if errors.As(err, &halt) && w == (Watermark{}) { // which no watermark will find again
		halt.Hint = o.SlotCommand("status") + "; compare the outbox table with the topic, then start the relay again to go on without what is missing"
	}
	if err != nil {
		return w, err
	}
	if o.Confirmed > now.End {
		return w, moved(o, w, now.End)
	}
	if o.Timeline != before.Timeline {
		r.cfg.Logger.Warn("relay goes on where the new timeline of the database began", "slot", o.Slot, "timeline", o.Timeline, "timeline_before", before.Timeline,
			"published_lsn", before.Position.Commit.String(), "confirmed_lsn", now.End.String())
	}
	r.origin, r.confirmed = o, min(r.confirmed, now.End)
	if w != (Watermark{}) {
		w = now
	}
	return w, nil
}

// moved is the halt for a slot that somebody else confirmed, or made again.
func moved(o Origin, w Watermark, published LSN) error {
	halt := &HaltError{
		Cause: SlotMoved, From: published, To: o.Confirmed,
		Err:  fmt.Errorf("slot %s stands beyond what this relay confirmed: another relay or delivery was in use, or the events between were never published", o.Slot),
		Hint: o.SlotCommand("status") + ", then find the rows of that stretch in the outbox table; start the relay again to go on behind it",
	}
	if w.End != 0 { // which is durable: starting again would find it again
		halt.Hint = o.SlotCommand("status") + ", then find the rows of that stretch in the outbox table; " + o.SlotCommand("adopt") + " to go on behind it"
	}
	if o.Fresh && w.End != 0 {
		halt.Cause = SlotMissing
		halt.Err = fmt.Errorf("slot %s is new, but events were published through an earlier one: those between may never have been published", o.Slot)
	}
	return halt
}

// pump moves batches until an error or the end of ctx.
func (r *run) pump(ctx context.Context, source *paced, publisher Publisher, floor floor) error {
	publishing, stop := drainable(ctx, r.cfg.Drain)
	defer stop()
	mark := floor.mark
	for ctx.Err() == nil {
		batch, err := source.next(ctx)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		events, err := floor.above(batch.Events)
		if err != nil {
			return err
		}
		r.observeSkipped(len(batch.Events) - len(events))
		source.spacing.begin(batch)
		if mark, err = advance(mark, events, batch.End); err != nil {
			return err
		}
		if mark.Position.Compare(r.sent) > 0 {
			r.sent = mark.Position
		}
		if err := r.publish(publishing, publisher, events, mark); err != nil {
			return err
		}
		source.spacing.end()
		if batch.End != 0 {
			source.stream.Confirm(batch.End)
			r.confirmed = max(r.confirmed, batch.End)
			r.observeConfirmed(batch.End)
		}
	}
	return ctx.Err()
}

// errUndrained is why a batch was given up that was still in flight when Config.Drain was over.
var errUndrained = errors.New("the time to drain is over")

func (r *run) publish(ctx context.Context, publisher Publisher, events []Event, mark Watermark) error {
	began := time.Now()
	r.observeWaiting(events)
	acknowledged := r.watchStall(len(events), mark)
	spanning, ended := r.startSpan(ctx, events)
	err := publisher.Publish(spanning, events, mark)
	ended(err)
	acknowledged(err == nil)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("publish %d events up to %s: %w", len(events), mark.Position, err)
	}
	if len(events) > 0 {
		r.failures = 0
		took := time.Since(began)
		r.cfg.Logger.Debug("relay published", "events", len(events), "lsn", mark.Position.Commit.String(), "seconds", took.Seconds())
		r.observePublished(events, took)
	}
	return nil
}

// errDisorder is a source that broke its contract. Publishing on would put events out of order, or leave some out as already published.
var errDisorder = errors.New("source went back in commit order")

// advance is the watermark once events are published.
func advance(mark Watermark, events []Event, end LSN) (Watermark, error) {
	last := mark.Position
	for i := range events {
		if p := events[i].Position; p.Compare(last) <= 0 {
			return mark, fmt.Errorf("%w: %s after %s", errDisorder, p, last)
		}
		last = events[i].Position
	}
	if n := len(events); n > 0 {
		mark.Position, mark.EventID = last, events[n-1].ID()
	}
	mark.End = max(mark.End, end)
	return mark, nil
}

// drainable returns a context that outlives ctx by d, or ends with stop, which must be called.
func drainable(ctx context.Context, d time.Duration) (out context.Context, stop func()) {
	out, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	done := make(chan struct{}) // closed by the goroutine below
	go func() {
		defer close(done)
		select {
		case <-ctx.Done():
		case <-out.Done():
			return
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(errUndrained)
		case <-out.Done():
		}
	}()
	return out, func() { cancel(nil); <-done }
}
