package bench

import (
	"fmt"
	"strings"
)

// lead says in a few lines what was found: of each of walpost's deliveries against each Debezium, and where it is behind as plainly as where it is ahead.
func lead(f found) string {
	r, list := *f.relay, f.relay.Summaries()
	var path []PathSummary
	if f.path != nil {
		path = f.path.Summaries()
	}
	var b strings.Builder
	m := r.About.Machine
	fmt.Fprintf(&b, "Measured on one machine with %d cores and everything on it: PostgreSQL %s, Kafka %s, Debezium %s.\n", m.Cores, m.PostgreSQL, m.Kafka, m.Debezium)
	for _, our := range list {
		if !our.ours() || our.Rate.N == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n**%s**\n\n", our.Label)
		for _, their := range list {
			if their.debezium() && their.Rate.N > 0 {
				fmt.Fprintf(&b, "- against **%s**: %s. %s\n", their.Label, headline(our, their, titleRate(r)),
					score(measures(our, their, walked(path, our.Name), walked(path, their.Name))))
			}
		}
	}
	fmt.Fprintf(&b, "\n%s", accounted(f))
	return b.String()
}

// headline are the figures that are asked for first, whoever is ahead in them.
func headline(our, their Summary, at int) string {
	text := fmt.Sprintf("a backlog drains at %s the rate", times(our.Rate.Median/their.Rate.Median))
	o, too := our.at(at)
	if t, measured := their.at(at); measured && too {
		text += fmt.Sprintf("; at %s events a second the median latency is %s instead of %s, and p99 %s instead of %s",
			count(at), ms(o.P50.Median), ms(t.P50.Median), ms(o.P99.Median), ms(t.P99.Median))
	}
	return text + fmt.Sprintf("; %s instead of %s MiB of memory", digits(our.PeakMiB.Median), digits(their.PeakMiB.Median))
}

// measure is one thing that was measured of walpost and of another.
type measure struct {
	what       string
	our, their float64
	more       bool // the more the better
	unit       string
	write      func(float64) string
}

// outcome is 1 when walpost is ahead, -1 when it is behind, and 0 when the figures, as they are written, are the same.
func (m measure) outcome() int {
	switch {
	case m.write(m.our) == m.write(m.their):
		return 0
	case (m.our > m.their) == m.more:
		return 1
	default:
		return -1
	}
}

// measures compares everything that was measured of both.
func measures(our, their Summary, ourPath, theirPath PathSummary) []measure {
	list := []measure{
		{"draining a backlog", our.Rate.Median, their.Rate.Median, true, "events/s", rate},
		{"the start to the first event", our.Start.Median, their.Start.Median, false, "s", seconds},
		{"processor time an event", our.Relay.Median + our.Walsender.Median, their.Relay.Median + their.Walsender.Median, false, "µs", digits},
		{"memory", our.PeakMiB.Median, their.PeakMiB.Median, false, "MiB", digits},
	}
	for _, o := range our.Latency {
		t, measured := their.at(o.Rate)
		if !measured {
			continue
		}
		at := " at " + count(o.Rate) + "/s"
		list = append(list, measure{"the median" + at, o.P50.Median, t.P50.Median, false, "ms", digits}, measure{"p99" + at, o.P99.Median, t.P99.Median, false, "ms", digits},
			measure{"processor time" + at, o.share(), t.share(), false, "% of a core", percent})
	}
	if our.Alone.Events > 0 && their.Alone.Events > 0 {
		list = append(list, measure{"the median of an event alone", our.Alone.P50.Median, their.Alone.P50.Median, false, "ms", digits},
			measure{"p99 of an event alone", our.Alone.P99.Median, their.Alone.P99.Median, false, "ms", digits})
	}
	list = append(list, hugeMeasures(our, their)...)
	if ourPath.Rate.N > 0 && theirPath.Rate.N > 0 {
		list = append(list, measure{"the median from request to mail", ourPath.Hops[HopAll].Median, theirPath.Hops[HopAll].Median, false, "ms", digits},
			measure{"p99 from request to mail", ourPath.P99.Median, theirPath.P99.Median, false, "ms", digits})
	}
	return list
}

// share is what an event's way takes of a core at the rate.
func (l LatencySummary) share() float64 { return l.RelayCPU.Median + l.Walsender.Median }

// score counts who is ahead, and names everything in which Debezium is.
func score(list []measure) string {
	ahead, even := 0, 0
	var behind []string
	for _, m := range list {
		switch m.outcome() {
		case 1:
			ahead++
		case 0:
			even++
		default:
			behind = append(behind, fmt.Sprintf("%s (%s against %s %s)", m.what, m.write(m.our), m.write(m.their), m.unit))
		}
	}
	text := fmt.Sprintf("Of %d figures walpost is ahead in %d", len(list), ahead)
	if even > 0 {
		text += fmt.Sprintf(", even in %d", even)
	}
	if len(behind) == 0 {
		return text + ", and behind in none."
	}
	return text + fmt.Sprintf(" and **behind in %d**: %s.", len(behind), strings.Join(behind, ", "))
}

// accounted says what became of the events of all measurements.
func accounted(f found) string {
	lost, doubled := 0, 0
	add := func(l, d int) { lost, doubled = lost+l, doubled+d }
	for _, s := range f.relay.Summaries() {
		add(s.Lost, s.Doubled)
	}
	if f.path != nil {
		for _, s := range f.path.Summaries() {
			add(s.Lost, s.Doubled)
		}
	}
	if f.soak != nil {
		for _, s := range f.soak.Soaks {
			add(s.Count.Lost, s.Count.Doubled)
		}
	}
	switch {
	case lost+doubled == 0:
		return "Nobody lost or doubled an event while being measured."
	case lost == 0:
		return fmt.Sprintf("Nobody lost an event while being measured. Doubled: %s, by whom is in the tables.", count(doubled))
	default:
		return fmt.Sprintf("Lost while being measured: %s events; doubled: %s; by whom is in the tables.", count(lost), count(doubled))
	}
}
