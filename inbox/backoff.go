package inbox

import (
	"context"
	"time"
)

const (
	retryGrowth  = 4 // of the waits between attempts
	outageGrowth = 2 // of the waits between probes: an outage ends for everybody at once, so look more often
)

// exponential is the n-th wait, n from 1.
func exponential(first, longest time.Duration, growth, n int) time.Duration {
	d := first
	for range n - 1 {
		d *= time.Duration(growth)
		if d >= longest {
			return longest
		}
	}
	return min(d, longest)
}

// pause waits; the end of ctx ends it, and is its error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// delay is the wait before the next attempt after n failed ones. jitter is in [0, 1).
func (p RetryPolicy) delay(n int, jitter float64) time.Duration {
	d := exponential(p.Min, p.Max, retryGrowth, n)
	return d + time.Duration(jitter*float64(d)/5)
}
