package relay

import (
	"cmp"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Config tunes a Relay. The zero value is good.
type Config struct {
	// Logger gets state changes at level info, failed sessions at warn, batches at debug. Payloads are never logged. Defaults to none.
	Logger *slog.Logger

	// Observer is told of states and published events. Defaults to none.
	Observer Observer

	// BackoffMin is the pause after the first failed session; it doubles with each further one. Every pause is shortened at random by up to
	// half. Defaults to 200 ms.
	BackoffMin time.Duration

	// BackoffMax bounds the pause. A session that published something, or lasted longer than this, starts the count again. Defaults to 30 s.
	BackoffMax time.Duration

	// StandbyInterval is how often a standby tries to take the slot. Defaults to 1 s.
	StandbyInterval time.Duration

	// StallAfter is how long a batch may remain unacknowledged before the relay says that it is stalled. Defaults to 5 s.
	StallAfter time.Duration

	// Drain bounds how long Run goes on publishing the batch in flight after its context has ended. What is not finished by then is published
	// again by the next Run. A Sink may take longer to end cleanly: kafkasink waits up to 15 s for the answer to a commit. Defaults to 10 s.
	Drain time.Duration
}

func (c Config) withDefaults() Config {
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.BackoffMin = cmp.Or(c.BackoffMin, 200*time.Millisecond)
	c.BackoffMax = cmp.Or(c.BackoffMax, 30*time.Second)
	c.StandbyInterval = cmp.Or(c.StandbyInterval, time.Second)
	c.StallAfter = cmp.Or(c.StallAfter, 5*time.Second)
	c.Drain = cmp.Or(c.Drain, 10*time.Second)
	return c
}

func (c Config) validate() error {
	switch {
	case c.BackoffMin < 0 || c.StandbyInterval < 0 || c.StallAfter < 0 || c.Drain < 0:
		return errors.New("durations must not be negative")
	case c.BackoffMax < c.BackoffMin:
		return errors.New("BackoffMax must not be below BackoffMin")
	}
	return nil
}

// SlowRetry marks a passing error whose cause is worsened by hurry, such as a refused password that may lock an account.
type SlowRetry struct {
	Err   error
	After time.Duration // the least pause before the next attempt
}

func (e *SlowRetry) Error() string { return e.Err.Error() }

// Unwrap is the error itself.
func (e *SlowRetry) Unwrap() error { return e.Err }

// Learned marks a passing error behind which the next attempt does better, because of what this one found out: the pause does not grow with it.
type Learned struct{ Err error }

func (e *Learned) Error() string { return e.Err.Error() }

// Unwrap is the error itself.
func (e *Learned) Unwrap() error { return e.Err }

// backoff is the pause after the failure err.
func (r *run) backoff(err error) time.Duration {
	if learned := (*Learned)(nil); errors.As(err, &learned) {
		r.failures = 0
	}
	wait := r.cfg.BackoffMin
	for range r.failures {
		if wait >= r.cfg.BackoffMax {
			break
		}
		wait *= 2
	}
	wait = jitter(min(wait, r.cfg.BackoffMax))
	var slow *SlowRetry
	if errors.As(err, &slow) {
		wait = max(wait, slow.After)
	}
	return wait
}

// jitter is between half of d and d, so that relays that failed together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/2+1))
}
