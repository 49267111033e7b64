package ops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	checkTimeout = 2 * time.Second        // of one check; a prober gives up soon after
	checkGrace   = 100 * time.Millisecond // for a check that heeds its context to say what it was doing
	reportAge    = time.Second            // a report is this fresh at least: probes and scrapes do not add up to load
)

// Status is how something is. The words are those of the metric walpost_health.
type Status string

// The values of Status.
const (
	StatusOK    Status = "ok"
	StatusWarn  Status = "warn"  // works, and needs a look
	StatusError Status = "error" // does not work
)

// Check is what a check found.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Error  string `json:"error,omitempty"`
}

// Report is the health of the process. It is ready when no check is StatusError.
type Report struct {
	Status Status            `json:"status"`
	Checks []Check           `json:"checks"`
	States map[string]string `json:"states,omitempty"` // of parts, in their own words: relay: standby
}

// Health knows what the process depends on and whether its loops still turn. It is safe for concurrent use.
type Health struct {
	turn chan struct{} // held by the one goroutine that runs the checks

	mu     sync.Mutex // guards the fields below; never held during a check
	checks map[string]func(context.Context) error
	states map[string]string
	loops  map[string]*loop
	going  map[string]chan Check // the answers of the checks that run
	last   Report
	lastAt time.Time
	lastOf int                  // the value of changes that last was made of
	since  map[string]time.Time // when a check that fails now failed first

	starting int // parts that have not registered their dependencies yet
	stopping bool
	changes  int // of all that a report is made of: one that was overtaken is not shown again
}

type loop struct {
	silence time.Duration
	ticked  time.Time
}

// NewHealth returns a Health without checks, which is ready and alive.
func NewHealth() *Health {
	return &Health{
		turn: make(chan struct{}, 1), checks: make(map[string]func(context.Context) error),
		states: make(map[string]string), loops: make(map[string]*loop), going: make(map[string]chan Check), since: make(map[string]time.Time),
	}
}

// Register adds a dependency; the same name again replaces it. The check gets two seconds and is never run twice at once; its error makes the
// process not ready, unless it is a Warning. A check that does not heed its context counts as failed until it returns.
func (h *Health) Register(name string, check func(context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks[name] = check
	delete(h.going, name)
	h.changes++
}

// Starting says that one more part is starting: before all have registered their dependencies a report would look healthier than it is.
func (h *Health) Starting() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.starting++
	h.changes++
}

// Started says that a part has registered its dependencies.
func (h *Health) Started() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.starting = max(h.starting-1, 0)
	h.changes++
}

// Stopping makes the process not ready for the rest of its life, so that nobody sends it new work.
func (h *Health) Stopping() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopping = true
	h.changes++
}

// process is the check of the process itself; nil in the middle of its life.
func (h *Health) process() []Check {
	switch {
	case h.stopping:
		return []Check{{Name: "process", Status: StatusError, Error: "stopping"}}
	case h.starting > 0:
		return []Check{{Name: "process", Status: StatusError, Error: "starting"}}
	}
	return nil
}

// SetState records what a part is doing, in its own words. It is shown and decides nothing: a standby is ready.
func (h *Health) SetState(part, state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[part] = state
	h.changes++
}

// State is what a part does, as it said last; empty: it has said nothing.
func (h *Health) State(part string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.states[part]
}

// Loop adds a loop that must call tick before each silence is over; a loop that hangs makes the process not alive. Call stop when the loop ends.
func (h *Health) Loop(name string, silence time.Duration) (tick, stop func()) {
	l := &loop{silence: silence, ticked: time.Now()}
	h.mu.Lock()
	h.loops[name] = l
	h.mu.Unlock()
	tick = func() {
		h.mu.Lock()
		l.ticked = time.Now()
		h.mu.Unlock()
	}
	stop = func() {
		h.mu.Lock()
		delete(h.loops, name)
		h.mu.Unlock()
	}
	return tick, stop
}

// Live returns an error that names the loops which have been silent for too long; nil when the process is alive.
func (h *Health) Live() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(h.loops)) {
		l := h.loops[name]
		if silent := time.Since(l.ticked); silent > l.silence {
			errs = append(errs, fmt.Errorf("loop %s has been silent for %s", name, silent.Round(time.Second)))
		}
	}
	return errors.Join(errs...)
}

// Warning makes a check's error one that needs a look and leaves the process ready.
func Warning(err error) error { return warning{err} }

type warning struct{ error }

// Unwrap returns the error itself.
func (w warning) Unwrap() error { return w.error }

// Report runs the checks, all at once, or returns the last report while it is fresh.
func (h *Health) Report(ctx context.Context) Report {
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return Report{Status: StatusError, Checks: []Check{{Name: "health", Status: StatusError, Error: context.Cause(ctx).Error()}}}
	}
	h.mu.Lock()
	fresh := time.Since(h.lastAt) < reportAge && h.lastOf == h.changes
	last, checks, states := h.last, maps.Clone(h.checks), maps.Clone(h.states)
	process, began, of := h.process(), time.Now(), h.changes
	h.mu.Unlock()
	if fresh {
		return last
	}
	// A prober that hangs up must not make the others' report.
	report := Report{Status: StatusOK, Checks: append(process, h.runChecks(context.WithoutCancel(ctx), checks)...), States: states}
	if slices.ContainsFunc(report.Checks, func(c Check) bool { return c.Status == StatusError }) {
		report.Status = StatusError
	}
	h.mu.Lock()
	h.last, h.lastAt, h.lastOf = report, began, of
	for _, c := range report.Checks {
		if c.Status != StatusError {
			delete(h.since, c.Name)
		} else if _, failing := h.since[c.Name]; !failing {
			h.since[c.Name] = began
		}
	}
	h.mu.Unlock()
	return report
}

// runChecks runs the checks all at once. One that does not heed its context is left running; until it has answered it is not started again.
func (h *Health) runChecks(ctx context.Context, checks map[string]func(context.Context) error) []Check {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	timeUp := time.NewTimer(checkTimeout + checkGrace)
	defer timeUp.Stop()
	answers := make(map[string]chan Check, len(checks))
	for name, check := range checks {
		answers[name] = h.begin(ctx, name, check)
	}
	results := make([]Check, 0, len(checks))
	for _, name := range slices.Sorted(maps.Keys(answers)) {
		select {
		case result := <-answers[name]:
			results = append(results, result)
			continue
		default: // an answer that is there counts, however late it is looked for
		}
		select {
		case result := <-answers[name]:
			results = append(results, result)
		case <-timeUp.C:
			timeUp.Reset(0) // for the others
			results = append(results, resultOf(name, fmt.Errorf("no answer within %s", checkTimeout)))
		}
	}
	return results
}

// begin starts a check, unless its last run still goes on; the channel will have the answer of one or the other.
func (h *Health) begin(ctx context.Context, name string, check func(context.Context) error) chan Check {
	h.mu.Lock()
	defer h.mu.Unlock()
	if answer, going := h.going[name]; going {
		return answer
	}
	answer := make(chan Check, 1)
	h.going[name] = answer
	go func() {
		result := resultOf(name, check(ctx))
		h.mu.Lock()
		if h.going[name] == answer { // otherwise another check has the name now
			delete(h.going, name)
		}
		h.mu.Unlock()
		answer <- result // last, or the next report would wait for it again
	}()
	return answer
}

func resultOf(name string, err error) Check {
	var w warning
	switch {
	case err == nil:
		return Check{Name: name, Status: StatusOK}
	case errors.As(err, &w):
		return Check{Name: name, Status: StatusWarn, Error: err.Error()}
	default:
		return Check{Name: name, Status: StatusError, Error: err.Error()}
	}
}

// failingFor is how long a check has failed without a break, as far as reports were asked for; 0 when it does not fail.
func (h *Health) failingFor(name string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if since, failing := h.since[name]; failing {
		return time.Since(since)
	}
	return 0
}
