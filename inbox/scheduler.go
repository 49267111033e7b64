package inbox

import (
	"slices"
	"sync"
	"time"
)

// scheduler hands lanes that have something to do to workers, partition by partition in turn.
//
// It exists, and is not a channel, for three reasons: a partition whose handlers hang must leave workers to the others; a revoked
// partition's lanes must vanish; and while the gate is shut nothing may start but a probe. It holds no more lanes than the windows hold
// records.
type scheduler struct {
	mu      sync.Mutex // protects everything below and the turns of the partitions
	work    sync.Cond  // something below changed that may let a worker go on
	parts   []*partition
	at      int // where the next turn begins
	free    int // workers that have no lane
	reserve int // workers that partitions with a worker leave to those without
	idle    int // partitions without a worker
	closed  bool
	gate    gate

	reopened func() // told, outside the mutex, that probing begins
}

// turn is a partition's part in the scheduler.
type turn struct {
	head, tail *lane // lanes that are ready, through nextReady
	workers    int
	listed     bool
}

// verdict is what a worker learned about the database.
type verdict uint8

const (
	neutral verdict = iota // nothing: it did not get that far
	healthy                // it works
	outage                 // it is out
)

func newScheduler(workers int, retry RetryPolicy, reopened func()) *scheduler {
	s := &scheduler{free: workers, reserve: workers / 4, reopened: reopened, gate: gate{retry: retry}}
	s.work.L = &s.mu
	return s
}

func (s *scheduler) add(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.turn.listed = true
	s.parts = append(s.parts, p)
	s.idle++
}

func (s *scheduler) remove(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.turn.listed {
		return
	}
	p.turn.listed = false
	p.turn.head, p.turn.tail = nil, nil
	s.parts = slices.DeleteFunc(s.parts, func(o *partition) bool { return o == p })
	if p.turn.workers == 0 {
		s.idle--
	}
	s.work.Broadcast()
}

// push makes lanes of p ready.
func (s *scheduler) push(p *partition, lanes []*lane) {
	if len(lanes) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.turn.listed {
		return
	}
	for _, l := range lanes {
		if p.turn.head == nil {
			p.turn.head = l
		} else {
			p.turn.tail.nextReady = l
		}
		p.turn.tail = l
	}
	if len(lanes) == 1 {
		s.work.Signal()
		return
	}
	s.work.Broadcast()
}

// take waits for a lane. It gives nil when the scheduler was closed. Each lane taken is released once.
func (s *scheduler) take() *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if s.closed {
			return nil
		}
		if s.gate.admits() {
			if l := s.next(); l != nil {
				s.gate.admit(l)
				return l
			}
		}
		s.work.Wait()
	}
}

// next is called with the mutex held.
func (s *scheduler) next() *lane {
	for i := range s.parts {
		at := (s.at + i) % len(s.parts)
		p := s.parts[at]
		if p.turn.head == nil || p.turn.workers > 0 && s.free <= min(s.idle, s.reserve) {
			continue
		}
		l := p.turn.head
		p.turn.head, l.nextReady = l.nextReady, nil
		if p.turn.workers == 0 {
			s.idle--
		}
		p.turn.workers++
		s.free--
		s.at = (at + 1) % len(s.parts)
		return l
	}
	return nil
}

// release gives the worker of a lane back, with what it learned. again makes the lane ready at once, before all others of its partition. It
// tells whether that moved the gate, and to where.
func (s *scheduler) release(l *lane, v verdict, again bool) (_ gateState, moved bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	turn := &l.part.turn
	s.free++
	turn.workers--
	if turn.listed && turn.workers == 0 {
		s.idle++
	}
	if again && turn.listed {
		if l.nextReady = turn.head; l.nextReady == nil {
			turn.tail = l
		}
		turn.head = l
		s.work.Signal()
	}
	state, moved := s.gate.report(l, v)
	if moved {
		s.work.Broadcast()
	}
	if moved && state.Shut && !s.closed {
		s.gate.timer = time.AfterFunc(state.Wait, s.halfOpen)
	}
	return state, moved
}

func (s *scheduler) halfOpen() {
	s.mu.Lock()
	s.gate.shut = false
	s.work.Broadcast()
	s.mu.Unlock()
	s.reopened()
}

// isShut reports whether nothing may start at all.
func (s *scheduler) isShut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate.shut
}

// close lets no worker take another lane.
func (s *scheduler) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.gate.timer != nil {
		s.gate.timer.Stop()
	}
	s.work.Broadcast()
}
