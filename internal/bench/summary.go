package bench

import (
	"slices"
	"strings"
)

// Summary is what all measurements of one contestant say together.
type Summary struct {
	Contestant

	Rate      Spread // of drains, events a second
	Start     Spread // seconds from the start to the first event
	Relay     Spread // of drains, microseconds of processor time an event, in the contestant's own process
	Walsender Spread // the same in PostgreSQL's
	PeakMiB   Spread // most memory of the contestant's own process, of drains
	Doubled   int
	Lost      int

	Latency []LatencySummary // in the order of the rates
	Alone   AloneSummary     // no events when it was not measured
	Huge    Drain            // no rows when it was not measured
}

// LatencySummary is what the measurements at one rate say together, in milliseconds.
type LatencySummary struct {
	Rate                int
	P50, P90, P99, Max  Spread
	Achieved, Behind    Spread
	RelayCPU, Walsender Spread // shares of one core
}

// Summaries are of the contestants in the order of the page.
func (r RelayResults) Summaries() []Summary {
	var list []Summary
	for _, c := range ordered(r.Contestants) {
		s := Summary{Contestant: c}
		s.drains(r.Drains)
		for _, at := range r.Rates {
			s.latencies(r.Latencies, at, r.Seconds)
		}
		s.alone(r.Alone)
		s.huge(r.Huge)
		list = append(list, s)
	}
	return list
}

func (s *Summary) drains(drains []Drain) {
	var rates, starts, relay, walsender, peaks []float64
	for _, d := range drains {
		if d.Contestant != s.Name {
			continue
		}
		rates, starts = append(rates, d.Rate), append(starts, d.Start)
		each := 1e6 / float64(max(d.Rows, 1))
		relay, walsender = append(relay, cpu(d.Use, ProcessRelay)*each), append(walsender, cpu(d.Use, ProcessWalsender)*each)
		peaks = append(peaks, peak(d.Use, ProcessRelay))
		s.Doubled += d.Count.Doubled
		s.Lost += d.Count.Lost
	}
	s.Rate, s.Start, s.Relay, s.Walsender, s.PeakMiB = spread(rates), spread(starts), spread(relay), spread(walsender), spread(peaks)
}

func (s *Summary) huge(drains []Drain) {
	for _, d := range drains {
		if d.Contestant == s.Name {
			s.Huge = d
			s.Doubled += d.Count.Doubled
			s.Lost += d.Count.Lost
		}
	}
}

func (s *Summary) latencies(all []Latency, at int, seconds float64) {
	var of []Latency
	rounds := make(map[int]bool)
	for _, l := range all {
		if l.Contestant == s.Name && l.Rate == at {
			of = append(of, l)
			if !rounds[l.Round] && len(s.Latency) == 0 { // the count is that of the round, told with each rate
				s.Doubled += l.Count.Doubled
				s.Lost += l.Count.Lost
			}
			rounds[l.Round] = true
		}
	}
	if len(of) == 0 {
		return
	}
	each := func(f func(Latency) float64) Spread {
		var values []float64
		for _, l := range of {
			values = append(values, f(l))
		}
		return spread(values)
	}
	percentile := func(p float64) Spread { return each(func(l Latency) float64 { return l.Curve.At(p) }) }
	s.Latency = append(s.Latency, LatencySummary{
		Rate: at, P50: percentile(50), P90: percentile(90), P99: percentile(99), Max: percentile(100),
		Achieved:  each(func(l Latency) float64 { return l.Achieved }),
		Behind:    each(func(l Latency) float64 { return float64(l.Behind) }),
		RelayCPU:  each(func(l Latency) float64 { return cpu(l.Use, ProcessRelay) / seconds }),
		Walsender: each(func(l Latency) float64 { return cpu(l.Use, ProcessWalsender) / seconds }),
	})
}

func cpu(uses []Use, process string) float64 {
	sum := 0.0
	for _, u := range uses {
		if u.Process == process {
			sum += u.CPUSeconds
		}
	}
	return sum
}

func peak(uses []Use, process string) float64 {
	most := 0.0
	for _, u := range uses {
		if u.Process == process {
			most = max(most, u.PeakMiB)
		}
	}
	return most
}

// shares are those of one core that went to a process while it was measured.
func (r RelayResults) shares(process string) Spread {
	var values []float64
	for _, d := range slices.Concat(r.Drains, r.Huge) {
		if d.Seconds > 0 {
			values = append(values, cpu(d.Use, process)/d.Seconds)
		}
	}
	for _, l := range r.Latencies {
		values = append(values, cpu(l.Use, process)/r.Seconds)
	}
	return spread(values)
}

// at is the summary of a rate; false when it was not measured.
func (s Summary) at(rate int) (LatencySummary, bool) {
	i := slices.IndexFunc(s.Latency, func(l LatencySummary) bool { return l.Rate == rate })
	if i < 0 {
		return LatencySummary{}, false
	}
	return s.Latency[i], true
}

// ours says that it is walpost's relay in one of its deliveries.
func (c Contestant) ours() bool { return strings.HasPrefix(c.Name, "walpost-") && c.carries() }

// carries says that it brings events to Kafka, and does not only read them.
func (c Contestant) carries() bool { return !onlyReads(c.Name) }

func (c Contestant) debezium() bool { return strings.HasPrefix(c.Name, Debezium) }

// ordered is the order of the page: walpost, and of its deliveries the one first that doubles nothing; then the others as they were measured.
func ordered(list []Contestant) []Contestant {
	rank := func(c Contestant) int {
		switch {
		case c.Name == exactlyOnce:
			return 0
		case c.ours():
			return 1
		default:
			return 2
		}
	}
	return slices.SortedStableFunc(slices.Values(list), func(a, b Contestant) int { return rank(a) - rank(b) })
}

// named finds a summary; the zero Summary when there is none.
func named(list []Summary, name string) Summary {
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	return Summary{}
}

// walked finds the summary of the whole way with a contestant; the zero PathSummary when there is none.
func walked(list []PathSummary, name string) PathSummary {
	for _, s := range list {
		if s.Name == name {
			return s
		}
	}
	return PathSummary{}
}

// PathSummary is what all measurements of the whole way with one contestant say together.
type PathSummary struct {
	Contestant

	Rate          Spread            // mails a second
	Hops          map[string]Spread // medians, milliseconds
	P99           Spread            // of the whole way
	Registrations int
	Lost, Doubled int
}

// Summaries are of the contestants in the order of the page.
func (r PathResults) Summaries() []PathSummary {
	var list []PathSummary
	for _, c := range ordered(r.Contestants) {
		s := PathSummary{Contestant: c, Hops: make(map[string]Spread)}
		var rates, p99 []float64
		medians := make(map[string][]float64)
		for _, p := range r.Paths {
			if p.Contestant != c.Name {
				continue
			}
			rates, p99 = append(rates, p.Rate), append(p99, p.Hops[HopAll].At(99))
			for hop, curve := range p.Hops {
				medians[hop] = append(medians[hop], curve.At(50))
			}
			s.Registrations += p.Registrations
			s.Lost += p.Lost
			s.Doubled += p.Doubled
		}
		for hop, values := range medians {
			s.Hops[hop] = spread(values)
		}
		s.Rate, s.P99 = spread(rates), spread(p99)
		list = append(list, s)
	}
	return list
}
