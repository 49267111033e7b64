package inbox

import "time"

// gate keeps the workers off a database that is out. It is open, shut until a timer fires, or half open: then one lane at a time probes,
// and its verdict opens the gate or shuts it for longer. Without it every message in memory would be run against the dead database in turn.
// The scheduler's mutex protects it.
type gate struct {
	retry    RetryPolicy
	failures int // outages in a row; zero: the gate is open
	shut     bool
	probe    *lane // the lane that is out while the gate is half open
	timer    *time.Timer
}

// gateState is the gate as the rest of the consumer sees it.
type gateState struct {
	Shut     bool
	Failures int           // zero: open
	Wait     time.Duration // how long it stays shut
}

func (g *gate) admits() bool { return g.failures == 0 || !g.shut && g.probe == nil }

func (g *gate) admit(l *lane) {
	if g.failures > 0 {
		g.probe = l
	}
}

// report takes a verdict. While the gate is not open only the probe's counts: the others began before.
func (g *gate) report(l *lane, v verdict) (_ gateState, changed bool) {
	probed := g.probe == l
	if g.failures > 0 && !probed {
		return gateState{}, false
	}
	g.probe = nil
	switch {
	case v == outage:
		g.failures++
		g.shut = true
	case v == healthy && probed:
		g.failures = 0
	case !probed:
		return gateState{}, false
	}
	return g.state(), true
}

func (g *gate) state() gateState {
	s := gateState{Shut: g.shut, Failures: g.failures}
	if g.shut {
		s.Wait = exponential(g.retry.Min, g.retry.Max, outageGrowth, g.failures)
	}
	return s
}
