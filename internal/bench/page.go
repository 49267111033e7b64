package bench

import (
	"fmt"
	"path/filepath"
	"strings"
)

// page is Markdown in the making.
type page struct{ strings.Builder }

func (p *page) add(format string, args ...any) { fmt.Fprintf(&p.Builder, format+"\n", args...) }

func (p *page) table(rows [][]string) {
	for i, row := range rows {
		p.add("| %s |", strings.Join(row, " | "))
		if i == 0 {
			p.add("|%s", strings.Repeat(" --- |", len(row)))
		}
	}
	p.add("")
}

func (p *page) plot(name, alt string, svg []byte, files map[string][]byte) {
	files[filepath.Join(Folder, name)] = svg
	p.add("![%s](%s/%s)\n", alt, Folder, name)
}

// relay writes the sections about the relays.
func (p *page) relay(r RelayResults, files map[string][]byte) {
	list := r.Summaries()
	p.add("## Draining a backlog\n")
	p.plot("drain.svg", drainTitle(list), drainPlot(r), files)
	p.table(DrainTable(r))
	p.reading(r, list)
	if len(r.Latencies) > 0 {
		p.add("## Latency\n")
		p.plot("latency.svg", latencyTitle(r, list), latencyPlot(r), files)
		p.table(LatencyTable(r))
		if slow := behind(list); slow != "" {
			p.add("%s\n", slow)
		}
	}
	p.alone(r)
	p.ratios(r, list)
	p.huge(r)
	p.add("## What it takes from the machine\n")
	p.plot("cost.svg", costTitle(list), costPlot(r), files)
	p.add("Every process shared %d cores with the others: what a relay does not take is there for PostgreSQL, Kafka and the application.\n",
		r.About.Machine.Cores)
}

// DrainTable has a line for each contestant that carries events; the first row is the heading.
func DrainTable(r RelayResults) [][]string {
	list := r.Summaries()
	base := named(list, Debezium).Rate.Median
	yardstick := named(list, PgRecvlogical).Rate.Median
	rows := [][]string{{
		"contestant", "events/s, median", "lowest – highest", "to Debezium's default", "to pg_recvlogical", "start to first event", "relay µs an event", "walsender µs an event",
		"relay MiB", "lost", "doubled",
	}}
	for _, s := range list {
		if s.Rate.N == 0 || !s.carries() {
			continue
		}
		rows = append(rows, []string{
			s.Label, count(int(s.Rate.Median)), between(s.Rate), ratio(s.Rate.Median, base), ratio(s.Rate.Median, yardstick),
			seconds(s.Start.Median) + " s", digits(s.Relay.Median), digits(s.Walsender.Median), digits(s.PeakMiB.Median),
			count(s.Lost), count(s.Doubled),
		})
	}
	return rows
}

// LatencyTable has a line for each rate and contestant; the first row is the heading.
func LatencyTable(r RelayResults) [][]string {
	rows := [][]string{{"events/s", "contestant", "p50 ms", "p90 ms", "p99 ms", "max ms", "p50 lowest – highest", "relay % of a core", "walsender % of a core"}}
	list := r.Summaries()
	for _, at := range r.Rates {
		for _, s := range list {
			l, ok := s.at(at)
			if !ok {
				continue
			}
			rows = append(rows, []string{
				count(at), s.Label, digits(l.P50.Median), digits(l.P90.Median), digits(l.P99.Median), digits(l.Max.Median),
				digits(l.P50.Min) + " – " + digits(l.P50.Max), percent(l.RelayCPU.Median), percent(l.Walsender.Median),
			})
		}
	}
	return rows
}

func ratio(value, base float64) string {
	if base == 0 {
		return "–"
	}
	return times(value / base)
}

// behind names who did not keep up, by more than a second's events, and writers that did not reach their rate.
func behind(list []Summary) string {
	var lines []string
	for _, s := range list {
		for _, l := range s.Latency {
			if l.Behind.Median > float64(l.Rate) {
				lines = append(lines, fmt.Sprintf("%s did not keep up with %s events a second: %s were waiting when the writers stopped, and its figures there "+
					"depend on how long they wrote.", s.Label, count(l.Rate), count(int(l.Behind.Median))))
			}
			if l.Achieved.Median < 0.98*float64(l.Rate) {
				lines = append(lines, fmt.Sprintf("Beside %s the writers reached %s of %s events a second.", s.Label, count(int(l.Achieved.Median)), count(l.Rate)))
			}
		}
	}
	return strings.Join(lines, "\n\n")
}

// path writes the section about the whole application.
func (p *page) path(r PathResults, files map[string][]byte) {
	list := r.Summaries()
	p.add("## The whole way: from the request to the mail\n")
	p.plot("path.svg", pathTitle(list), pathPlot(r), files)
	p.table(PathTable(r))
	p.add("What bounds the throughput is the password's hash: argon2id with 19 MiB takes some 35 ms of a core, on purpose, so that %d cores do no more than about "+
		"%d registrations a second. The relay decides how soon the mail comes, not how many.\n", r.About.Machine.Cores, r.About.Machine.Cores*1000/35)
}

// PathTable has a line for each contestant; the first row is the heading.
func PathTable(r PathResults) [][]string {
	rows := [][]string{{
		"contestant", "mails/s", "request → commit ms", "commit → topic ms", "topic → applied ms", "applied → mail ms", "all p50 ms", "all p99 ms",
		"registrations", "lost", "doubled",
	}}
	for _, s := range r.Summaries() {
		if s.Rate.N == 0 {
			continue
		}
		row := []string{s.Label, digits(s.Rate.Median)}
		for _, hop := range []string{HopRequest, HopPublish, HopApply, HopMail, HopAll} {
			row = append(row, digits(s.Hops[hop].Median))
		}
		rows = append(rows, append(row, digits(s.P99.Median), count(s.Registrations), count(s.Lost), count(s.Doubled)))
	}
	return rows
}

// terms of a map, sorted, one a line.
func (p *page) terms(m map[string]string) {
	for _, name := range sortedKeys(m) {
		p.add("- %s: %s", name, m[name])
	}
}
