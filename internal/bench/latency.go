package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	warmup       = 2 * time.Second // of single events and of each rate; what is written in it is accounted for and not measured
	probePeriod  = 100 * time.Millisecond
	probesAtMost = 1200 // two minutes for a contestant to come to work
)

// pace is what the writers of one contestant's round do: single events, then each rate for the warm-up and the time measured.
type pace struct {
	alone    int // single events, at most
	rates    []int
	duration time.Duration
}

func (p pace) events() int {
	sum := probesAtMost + p.aloneWarm() + p.alone
	for _, rate := range p.rates {
		sum += p.warm(rate) + p.measured(rate)
	}
	return sum
}

// aloneWarm bounds the single events of the warm-up.
func (p pace) aloneWarm() int {
	if p.alone == 0 {
		return 0
	}
	return int(warmup / alonePause)
}

func (p pace) warm(rate int) int     { return int(warmup.Seconds() * float64(rate)) }
func (p pace) measured(rate int) int { return int(p.duration.Seconds() * float64(rate)) }

// held is what was measured of one contestant in one round.
type held struct {
	alone     Alone
	latencies []Latency
	count     Count // of all events of the round
}

// latencies sends one contestant single events and holds it to each rate, one after the other, on a slot that begins now.
func (w *world) latencies(ctx context.Context, c contestant, p pace, name string, number int) (got held, err error) {
	got.count, err = w.session(ctx, c, p, name, number, func(s *session) error {
		alone, err := s.alone(ctx)
		if err != nil {
			return err
		}
		got.alone = alone
		for _, rate := range p.rates {
			one, err := s.hold(ctx, rate)
			if err != nil {
				return err
			}
			one.Contestant = c.about().Name
			got.latencies = append(got.latencies, one)
		}
		return nil
	})
	got.alone.Contestant = c.about().Name
	for i := range got.latencies {
		got.latencies[i].Count = got.count // of all: a record too many may come late
	}
	return got, err
}

// session has a contestant carry what the function writes, on a slot that begins now, and counts all of it.
func (w *world) session(ctx context.Context, c contestant, p pace, name string, number int, write func(*session) error) (all Count, err error) {
	l := lane{name: name, slot: slotName(name), topic: name + ".${event_type}"}
	if _, err := w.pool.Exec(ctx, `truncate outbox_events`); err != nil { // tables as small for the last as for the first
		return Count{}, err
	}
	if _, err := w.pool.Exec(ctx, `select pg_create_logical_replication_slot($1, 'pgoutput')`, l.slot); err != nil {
		return Count{}, err
	}
	conns, closeAll, err := w.connect(ctx, writers)
	if err != nil {
		return Count{}, err
	}
	defer closeAll()
	prefix := idPrefix(time.Now(), number)
	tally := newTally(prefix, p.events())
	m := newMeter()
	r, err := w.begin(ctx, c, l, eventType, m, into(tally, func() {}))
	if err != nil {
		return Count{}, err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	s := &session{
		run: r, tally: tally, meter: m, conns: conns, pace: p,
		load: &load{prefix: prefix, began: tally.began, committed: make([]time.Duration, p.events()+1)},
	}
	if err := s.probe(ctx); err != nil {
		return Count{}, err
	}
	if err := write(s); err != nil {
		return Count{}, err
	}
	if err := r.finish(ctx); err != nil {
		return Count{}, err
	}
	return tally.result(s.written), nil
}

// session is a contestant that carries what is written while it does.
type session struct {
	run     *run
	tally   *tally
	meter   *meter
	conns   []*pgx.Conn
	pace    pace
	load    *load
	written int
}

// probe writes an event now and then until one arrives: the contestant is at work.
func (s *session) probe(ctx context.Context) error {
	for s.tally.arrived() == 0 {
		if s.written == probesAtMost {
			return fmt.Errorf("no event came in %v: %w", probesAtMost*probePeriod, errors.Join(s.run.carrier.trouble(ctx), errors.New("it did not come to work")))
		}
		s.written++
		if err := s.load.append(ctx, s.conns[0], s.written, time.Now().Add(probePeriod)); err != nil {
			return err
		}
	}
	return s.tally.await(ctx, s.written, stallLimit, s.run.carrier.trouble)
}

// hold writes at the rate and measures after the warm-up.
func (s *session) hold(ctx context.Context, rate int) (Latency, error) {
	if err := s.warmUp(ctx, rate); err != nil {
		return Latency{}, err
	}
	return s.steady(ctx, rate)
}

func (s *session) warmUp(ctx context.Context, rate int) error {
	warm := s.pace.warm(rate)
	if err := s.load.write(ctx, s.conns, s.written+1, warm, rate); err != nil {
		return err
	}
	s.written += warm
	return nil
}

func (s *session) steady(ctx context.Context, rate int) (Latency, error) {
	first, measured := s.written+1, s.pace.measured(rate)
	from := s.meter.mark(ctx)
	if err := s.load.write(ctx, s.conns, first, measured, rate); err != nil {
		return Latency{}, err
	}
	s.written += measured
	behind := s.written - s.tally.arrived()
	use := s.meter.between(from, s.meter.mark(ctx))
	if err := s.tally.await(ctx, s.written, stallLimit, s.run.carrier.trouble); err != nil {
		return Latency{}, err
	}
	result := s.measure(first, measured)
	result.Rate, result.Behind, result.Use = rate, behind, use
	return result, nil
}

// measure compares when the events were committed and when they were seen. What never came is in the count, not here.
func (s *session) measure(first, n int) Latency {
	var result Latency
	var waits []time.Duration
	s.tally.mu.Lock()
	defer s.tally.mu.Unlock()
	begin, end := s.load.committed[first], time.Duration(0)
	for seq := first; seq < first+n; seq++ {
		committed, seen := s.load.committed[seq], s.tally.seen[seq]
		begin, end = min(begin, committed), max(end, committed)
		if seen == 0 {
			continue
		}
		if seen < committed {
			result.Early++
		}
		waits = append(waits, max(seen-committed, 0))
	}
	result.Measured, result.Curve = len(waits), curve(waits)
	if end > begin {
		result.Achieved = round(float64(n-1)/(end-begin).Seconds(), 1)
	}
	return result
}
