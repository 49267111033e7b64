package bench

import (
	"fmt"
	"math"
)

// SoakSummary is what a soak says in a line.
type SoakSummary struct {
	Contestant
	Soak

	Memory, Lag Spread  // over the seconds
	Slope       float64 // of the memory in the second half, MiB a minute: what a leak would show, and the start does not disturb
}

// Summaries are of the contestants in the order of the page.
func (r SoakResults) Summaries() []SoakSummary {
	var list []SoakSummary
	for _, c := range ordered(r.Contestants) {
		for _, s := range r.Soaks {
			if s.Contestant == c.Name && len(s.MemoryMiB) > 0 {
				list = append(list, SoakSummary{
					Contestant: c, Soak: s, Memory: spread(s.MemoryMiB), Lag: spread(s.LagSeconds), Slope: 60 * slope(s.MemoryMiB[len(s.MemoryMiB)/2:]),
				})
			}
		}
	}
	return list
}

// slope is that of the straight line through the values that fits them best (least squares), from one value to the next.
func slope(values []float64) float64 {
	n := float64(len(values))
	if n < 2 {
		return 0
	}
	mean := 0.0
	for _, v := range values {
		mean += v / n
	}
	middle := (n - 1) / 2
	var along, square float64
	for i, v := range values {
		x := float64(i) - middle
		along, square = along+x*(v-mean), square+x*x
	}
	return along / square
}

// SoakTable has a line for each contestant; the first row is the heading.
func SoakTable(r SoakResults) [][]string {
	rows := [][]string{{
		"contestant", "events/s reached", "relay MiB, lowest – median – highest", "MiB a minute, second half", "behind, median", "behind, most", "p50 ms", "p99 ms",
		"relay % of a core", "lost", "doubled",
	}}
	for _, s := range r.Summaries() {
		rows = append(rows, []string{
			s.Label, count(int(s.Achieved)), digits(s.Memory.Min) + " – " + digits(s.Memory.Median) + " – " + digits(s.Memory.Max), fmt.Sprintf("%+.2f", s.Slope),
			fmt.Sprintf("%.2f s", s.Lag.Median), fmt.Sprintf("%.2f s", s.Lag.Max), digits(s.Curve.At(50)), digits(s.Curve.At(99)),
			percent(cpu(s.Use, ProcessRelay) / r.Seconds), count(s.Count.Lost), count(s.Count.Doubled),
		})
	}
	return rows
}

// soak writes the section about the steady load.
func (p *page) soak(r SoakResults, files map[string][]byte) {
	p.add("## Steady load for %s\n", span(r.Seconds))
	p.plot("soak.svg", soakTitle(r), soakPlot(r), files)
	p.table(SoakTable(r))
	p.add("Behind is how long ago the oldest of what the slot is not confirmed to was written to the log; after a crash that much would be read again.\n")
}

func soakTitle(r SoakResults) string {
	var figures []figure
	for _, s := range r.Summaries() {
		figures = append(figures, figure{s.Contestant, fmt.Sprintf("%s to %s MiB and at most %.2f s behind", digits(s.Memory.Min), digits(s.Memory.Max), s.Lag.Max)})
	}
	return titled(count(r.Rate)+" events/s for "+span(r.Seconds), figures)
}

// soakPlot shows memory and the confirmed position's lag over time.
func soakPlot(r SoakResults) []byte {
	list := r.Summaries()
	d, y := draw(soakTitle(r), "The highest of each second, ten looks a second.")
	at := float64(margin)
	for _, s := range list {
		label := "walpost " + s.variant()
		d.rect(at, y-9, 12, 12, 3, colour(s.Contestant))
		d.text(at+18, y+2, "small", "", label)
		at += 40 + width(label, 6.6)
	}
	y += 30
	y = d.timeline(y, "Memory of the relay's process, MiB", r.Seconds, list, func(s SoakSummary) []float64 { return s.MemoryMiB })
	y = d.timeline(y+36, "Confirmed position behind, seconds", r.Seconds, list, func(s SoakSummary) []float64 { return s.LagSeconds })
	return d.finish(y)
}

const (
	timelineHeight = 140
	timelinePoints = 390 // two pixels each
)

// timeline draws a line of each soak over its time; it returns the y below.
func (d *drawing) timeline(y float64, head string, seconds float64, list []SoakSummary, of func(SoakSummary) []float64) float64 {
	d.text(margin, y, "head", "", head)
	y += 16
	left, right, bottom := float64(margin+44), float64(plotWidth-margin-14), y+timelineHeight
	most := 0.0
	for _, s := range list {
		for _, v := range of(s) {
			most = max(most, v)
		}
	}
	step := tick(max(most, 0.001), 4)
	top := math.Ceil(max(most, 0.001)/step) * step
	height := func(v float64) float64 { return bottom - v/top*timelineHeight }
	for v := 0.0; v <= top*1.001; v += step {
		d.line(left, height(v), right, height(v), "grid")
		d.text(left-8, height(v)+4, "small", "end", fmt.Sprintf("%g", round(v, 4)))
	}
	unit, name := 60.0, "min"
	if seconds < 120 {
		unit, name = 1, "s"
	}
	for t, step := 0.0, tick(seconds/unit, 10); t <= seconds/unit*1.001; t += step {
		d.text(left+t*unit/seconds*(right-left), bottom+18, "small", "middle", fmt.Sprintf("%g %s", round(t, 4), name))
	}
	for _, s := range list {
		values := thinned(of(s), timelinePoints)
		points := make([]point, len(values))
		for i, v := range values {
			points[i] = point{left + (float64(i)+0.5)/float64(len(values))*(right-left), height(v)}
		}
		d.curve(points, colour(s.Contestant)+"s curve")
	}
	return bottom + 18
}

// tick is a round step with which most is reached in at most so many.
func tick(most float64, steps int) float64 {
	magnitude := math.Pow10(int(math.Floor(math.Log10(most / float64(steps)))))
	for _, factor := range []float64{1, 2, 5} {
		if magnitude*factor*float64(steps) >= most {
			return magnitude * factor
		}
	}
	return magnitude * 10
}

// thinned keeps at most so many values, each the highest of its neighbours: what is looked for is peaks.
func thinned(values []float64, most int) []float64 {
	if len(values) <= most {
		return values
	}
	list := make([]float64, most)
	for i, v := range values {
		at := i * most / len(values)
		list[at] = max(list[at], v)
	}
	return list
}
