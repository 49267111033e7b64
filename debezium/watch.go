package debezium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// WatchConfig tunes Watch. The zero value works.
type WatchConfig struct {
	// Interval is the time between two looks at the connector. Defaults to 5 s.
	Interval time.Duration

	// BackoffMin and BackoffMax bound the time between seeing a failure and restarting: the first restart of a row waits BackoffMin, each later one
	// twice as long as the one before. Default to 5 s and 5 min.
	BackoffMin, BackoffMax time.Duration

	// Healthy is how long a connector must have run for its next failure to begin a new row. Defaults to 10 min.
	Healthy time.Duration

	// Apply makes the connector that is to be watched, as Client.Apply does: it is called at first and whenever the connector is missing or
	// Status.Unfinished; until it succeeds, again after 1 s and then up to 30 s. A *NotRunningError counts as success: what was applied and failed is
	// restarted. Defaults to nothing: a connector that is missing ends Watch.
	Apply func(context.Context) error

	// Resume calls Apply at first even for a connector that somebody paused or stopped. Defaults to leaving it alone until somebody else resumes it.
	Resume bool

	// Report is told each step, in order, from the goroutine of Watch. Defaults to nobody.
	Report func(WatchEvent)
}

func (c WatchConfig) withDefaults() WatchConfig {
	c.Interval = cmp.Or(c.Interval, 5*time.Second)
	c.BackoffMin = cmp.Or(c.BackoffMin, 5*time.Second)
	c.BackoffMax = cmp.Or(c.BackoffMax, 5*time.Minute)
	c.Healthy = cmp.Or(c.Healthy, 10*time.Minute)
	if c.Report == nil {
		c.Report = func(WatchEvent) {}
	}
	return c
}

func (c WatchConfig) validate() error {
	if c.Interval < 0 || c.BackoffMin < 0 || c.BackoffMax < c.BackoffMin || c.Healthy < 0 {
		return errors.New("watch a connector: a duration is negative, or the largest back-off smaller than the smallest")
	}
	return nil
}

// WatchStep is what Watch saw or did.
type WatchStep string

// The steps.
const (
	WatchRunning     WatchStep = "running"     // the connector runs, at the beginning or again
	WatchFailed      WatchStep = "failed"      // a part failed; the restart comes after Wait
	WatchRestarted   WatchStep = "restarted"   // the failed parts were told to restart, for the Attempt-th time in this row
	WatchPaused      WatchStep = "paused"      // somebody paused or stopped it; it is left alone
	WatchUnassigned  WatchStep = "unassigned"  // it is on its way to a worker
	WatchUnavailable WatchStep = "unavailable" // Kafka Connect does not answer as it should; see Err
	WatchApplied     WatchStep = "applied"     // WatchConfig.Apply has made the connector
	WatchNotApplied  WatchStep = "not_applied" // it could not, for the Attempt-th time and for what Err says; again after Wait
)

// WatchEvent is a step of Watch.
type WatchEvent struct {
	Step    WatchStep
	Status  Status        // explained; without parts when unavailable
	Attempt int           // of WatchFailed and WatchRestarted: the restart's number, from 1; of WatchNotApplied that of the attempt
	Wait    time.Duration // of WatchFailed and WatchNotApplied: until the next attempt
	Err     error         // of WatchUnavailable and WatchNotApplied
}

// Watch restarts the failed parts of a connector for as long as ctx lasts, because Kafka Connect never does, and then returns nil. It reports
// a step when something changes and whenever it acts. An outage of Kafka Connect is reported and sat out. The error matches ErrNotFound when
// the connector does not exist, or no longer, and WatchConfig.Apply is not there to make it.
func (c *Client) Watch(ctx context.Context, name string, cfg WatchConfig) error {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return err
	}
	w := watch{client: c, name: name, cfg: cfg}
	for {
		wait, err := w.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

type watch struct {
	client *Client
	name   string
	cfg    WatchConfig

	last    WatchStep // reported last, so that only changes are
	attempt int       // restarts in this row
	due     time.Time // of the next restart; zero: none is awaited
	running time.Time // since when it runs; zero: it does not
	applied bool      // by us, and there since
	refused int       // attempts to apply in this row
}

// look does what is due and says when to look again.
func (w *watch) look(ctx context.Context) (time.Duration, error) {
	status, err := w.client.Status(ctx, w.name)
	missing := errors.Is(err, ErrNotFound)
	switch {
	case missing && w.cfg.Apply == nil:
		return 0, err
	case missing, err == nil && w.cfg.Apply != nil && w.lacks(status):
		return w.apply(ctx), nil
	case err != nil:
		return w.seen(WatchEvent{Step: WatchUnavailable, Err: err}), nil
	}
	switch status.overall() {
	case Failed:
		return w.failed(ctx, status), nil
	case Paused:
		return w.seen(WatchEvent{Step: WatchPaused, Status: status}), nil
	case Running:
		if w.running.IsZero() {
			w.running = time.Now()
		}
		return w.seen(WatchEvent{Step: WatchRunning, Status: status}), nil
	}
	return w.seen(WatchEvent{Step: WatchUnassigned, Status: status}), nil
}

// lacks reports whether a connector that is there is still to be applied.
func (w *watch) lacks(status Status) bool {
	return status.Unfinished || !w.applied && (w.cfg.Resume || !status.Idle())
}

// seen reports a step that differs from the last. An outage of Kafka Connect says nothing about the connector: neither how long it
// has been running nor a restart that is due is forgotten.
func (w *watch) seen(e WatchEvent) time.Duration {
	if e.Step != WatchUnavailable {
		w.due = time.Time{}
	}
	if e.Step != WatchRunning && e.Step != WatchUnavailable {
		w.running = time.Time{}
	}
	if e.Step != w.last {
		w.cfg.Report(e)
	}
	w.last = e.Step
	return w.cfg.Interval
}

// failed waits out the back-off, then restarts.
func (w *watch) failed(ctx context.Context, status Status) time.Duration {
	if w.due.IsZero() {
		if !w.running.IsZero() && time.Since(w.running) >= w.cfg.Healthy {
			w.attempt = 0
		}
		w.running = time.Time{}
		w.attempt++
		wait := backoff(w.cfg.BackoffMin, w.cfg.BackoffMax, w.attempt)
		w.due = time.Now().Add(wait)
		w.report(WatchEvent{Step: WatchFailed, Status: status, Attempt: w.attempt, Wait: wait})
	}
	if wait := time.Until(w.due); wait > 0 {
		return min(wait, w.cfg.Interval)
	}
	if _, err := w.client.Restart(ctx, w.name); err != nil {
		return w.seen(WatchEvent{Step: WatchUnavailable, Err: fmt.Errorf("attempt %d: %w", w.attempt, err)})
	}
	w.due = time.Time{}
	w.report(WatchEvent{Step: WatchRestarted, Status: status, Attempt: w.attempt})
	return w.cfg.Interval
}

func (w *watch) report(e WatchEvent) {
	w.last = e.Step
	w.cfg.Report(e)
}

// The bounds of the time between two attempts to apply: the servers of a system that is starting come up within seconds of each other.
const (
	applyMin = time.Second
	applyMax = 30 * time.Second
)

func (w *watch) apply(ctx context.Context) time.Duration {
	err := w.cfg.Apply(ctx)
	if ctx.Err() != nil {
		return 0
	}
	w.due, w.running = time.Time{}, time.Time{}
	var notRunning *NotRunningError
	if w.applied = err == nil || errors.As(err, &notRunning); w.applied {
		w.refused = 0
		w.report(WatchEvent{Step: WatchApplied})
		return 0
	}
	w.refused++
	wait := backoff(applyMin, applyMax, w.refused)
	w.report(WatchEvent{Step: WatchNotApplied, Err: err, Attempt: w.refused, Wait: wait})
	return wait
}

// backoff is the wait before the attempt of that number, from 1.
func backoff(least, most time.Duration, attempt int) time.Duration {
	wait := least
	for range attempt - 1 {
		if wait = 2 * wait; wait >= most {
			return most
		}
	}
	return wait
}
