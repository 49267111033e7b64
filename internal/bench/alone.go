package bench

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// aloneLimit bounds a round of single events: who takes half a second for one carries a dozen.
	aloneLimit = 8 * time.Second

	// alonePause is the shortest and alonePauses the longest pause before an event. They let everybody come to rest, and keep in step with nobody's polling.
	alonePause, alonePauses = 5 * time.Millisecond, 25 * time.Millisecond
)

// Alone is how long an event takes that has the way to itself: each was written when the one before had arrived, and a short random pause was over.
type Alone struct {
	Contestant string `json:"contestant"`
	Round      int    `json:"round"`
	Events     int    `json:"events"` // fewer than asked for when time was up
	Early      int    `json:"early"`  // as in Latency
	Curve      Curve  `json:"curve"`  // from the return of the commit to the consumer
}

// alone writes one event at a time, for the warm-up and then to be measured.
func (s *session) alone(ctx context.Context) (Alone, error) {
	if s.pace.alone == 0 {
		return Alone{}, nil
	}
	if err := s.singly(ctx, s.pace.aloneWarm(), warmup); err != nil {
		return Alone{}, err
	}
	first := s.written + 1
	if err := s.singly(ctx, s.pace.alone, aloneLimit); err != nil {
		return Alone{}, err
	}
	l := s.measure(first, s.written-first+1)
	return Alone{Events: l.Measured, Early: l.Early, Curve: l.Curve}, nil
}

// singly writes so many events, or as many as the time allows, each when the one before has come. One that does not come ends it: the count says so.
func (s *session) singly(ctx context.Context, most int, limit time.Duration) error {
	last := s.written + most
	for began := time.Now(); s.written < last && time.Since(began) < limit && s.tally.arrived() == s.written; {
		if err := pause(ctx, alonePause+rand.N(alonePauses-alonePause)); err != nil {
			return err
		}
		s.written++
		if err := s.load.append(ctx, s.conns[0], s.written, time.Now()); err != nil {
			return err
		}
		if err := s.tally.await(ctx, s.written, stallLimit, s.run.carrier.trouble); err != nil {
			return err
		}
	}
	return nil
}

// AloneSummary is what all rounds of single events say together, in milliseconds.
type AloneSummary struct {
	Events             int
	P50, P90, P99, Max Spread // over the rounds
}

func (s *Summary) alone(all []Alone) {
	var of []Curve
	for _, a := range all {
		if a.Contestant == s.Name && len(a.Curve) > 0 {
			of = append(of, a.Curve)
			s.Alone.Events += a.Events
		}
	}
	s.Alone.P50, s.Alone.P90, s.Alone.P99, s.Alone.Max = spreadAt(of, 50), spreadAt(of, 90), spreadAt(of, 99), spreadAt(of, 100)
}

func spreadAt(curves []Curve, percent float64) Spread {
	var values []float64
	for _, c := range curves {
		values = append(values, c.At(percent))
	}
	return spread(values)
}

// AloneTable has a line for each contestant that single events were measured of; the first row is the heading.
func AloneTable(r RelayResults) [][]string {
	rows := [][]string{{"contestant", "p50 ms", "p90 ms", "p99 ms", "max ms", "p99 lowest – highest", "events"}}
	for _, s := range r.Summaries() {
		if a := s.Alone; a.Events > 0 {
			rows = append(rows, []string{
				s.Label, digits(a.P50.Median), digits(a.P90.Median), digits(a.P99.Median), digits(a.Max.Median),
				digits(a.P99.Min) + " – " + digits(a.P99.Max), count(a.Events),
			})
		}
	}
	return rows
}

// alone writes the section about single events, when there were any.
func (p *page) alone(r RelayResults) {
	if table := AloneTable(r); len(table) > 1 {
		p.add("### One event alone\n")
		p.table(table)
	}
}
