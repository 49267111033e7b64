package child

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

const (
	pollInterval = 20 * time.Millisecond // for the end of a process that is not our child: the system does not tell us
	killPatience = 10 * time.Second      // after SIGKILL; a process in the middle of a write to a slow disk may take that long
)

// Exited is closed when the process has ended, wanted or not.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Wait returns nil when the process has ended, and the cause of ctx's end when that comes first.
func (p *Process) Wait(ctx context.Context) error {
	if p.wait(ctx.Done(), nil) {
		return nil
	}
	return context.Cause(ctx)
}

// wait reports whether the process has ended before one of the channels delivered.
func (p *Process) wait(done <-chan struct{}, late <-chan time.Time) bool {
	var poll <-chan time.Time
	if !p.child {
		tick := time.NewTicker(pollInterval)
		defer tick.Stop()
		poll = tick.C
	}
	for !p.ended() {
		select {
		case <-p.exited:
		case <-poll:
		case <-done:
			return false
		case <-late:
			return false
		}
	}
	return true
}

// ended reports whether the process is gone. A process of the same number that began at another time is another one.
func (p *Process) ended() bool {
	if p.child {
		select {
		case <-p.exited:
			return true
		default:
			return false
		}
	}
	began, err := beginning(p.rec.PID)
	return err != nil || began != p.rec.Began
}

// Await calls ready at once and then every interval until it returns nil. It fails when the process ends, and when ctx does, with the last lines that
// the process printed and in the second case with what ready said.
func (p *Process) Await(ctx context.Context, interval time.Duration, ready func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if p.ended() { // asked last: an answer may have come from another process at the same address
			return fmt.Errorf("%s ended while starting: %s", p.rec.Name, p.Log())
		}
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %w: %s", p.rec.Name, ctx.Err(), err, p.Log())
		}
	}
}

// Signal sends a signal to the process, unless it has ended.
func (p *Process) Signal(signal syscall.Signal) {
	if !p.ended() {
		_ = p.proc.Signal(signal) // an error means that it has ended meanwhile
	}
}

// Stop asks the process to stop in the ways that its command names, one after the other, and waits for its end. The end of ctx counts as lost patience
// with the first way. A process that has to be killed in the end is an error, unless its command names no way to ask.
func (p *Process) Stop(ctx context.Context) error {
	hurry := ctx.Done()
	for _, step := range p.rec.Stop {
		p.Signal(step.Signal)
		late := time.NewTimer(step.Patience)
		ended := p.wait(hurry, late.C)
		late.Stop()
		if ended {
			return nil
		}
		hurry = nil
	}
	if err := p.kill(); err != nil {
		return err
	}
	if len(p.rec.Stop) > 0 {
		return fmt.Errorf("%s (process %d) did not stop when asked and was killed", p.rec.Name, p.PID())
	}
	return nil
}

// Kill ends the process with SIGKILL, as a crash would, and waits for that, at most ten seconds.
func (p *Process) Kill() { _ = p.kill() } // what outlives SIGKILL for so long cannot be helped from here

func (p *Process) kill() error {
	p.Signal(syscall.SIGKILL)
	if !p.wait(nil, time.After(killPatience)) {
		return fmt.Errorf("%s (process %d) is still there %v after SIGKILL", p.rec.Name, p.PID(), killPatience)
	}
	return nil
}
