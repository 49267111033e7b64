package bench

import (
	"fmt"
	"strings"
)

// reading writes the section about those that only read, when any did.
func (p *page) reading(r RelayResults, list []Summary) {
	table := ReadTable(r)
	if len(table) == 1 {
		return
	}
	p.add("## Reading and decoding alone\n")
	p.table(table)
	if text := readingText(r, list); text != "" {
		p.add("%s\n", text)
	}
}

// ReadTable has a line for each that only read the backlog; the first row is the heading.
func ReadTable(r RelayResults) [][]string {
	rows := [][]string{{"reader", "events/s, median", "lowest – highest", "reader µs an event", "walsender µs an event", "reader MiB"}}
	for _, s := range r.Summaries() {
		if s.carries() || s.Rate.N == 0 {
			continue
		}
		memory := "–"
		if s.PeakMiB.Median > 0 {
			memory = digits(s.PeakMiB.Median)
		}
		rows = append(rows, []string{s.Label, count(int(s.Rate.Median)), between(s.Rate), digits(s.Relay.Median), digits(s.Walsender.Median), memory})
	}
	return rows
}

// readingText says how walpost reads beside PostgreSQL's own reader, in the rounds in which both did, and how it carries beside it.
func readingText(r RelayResults, list []Summary) string {
	var parts []string
	if of := r.byRound(WalpostRead, PgRecvlogical); of.N > 0 {
		parts = append(parts, fmt.Sprintf("walpost reads and decodes at %s the rate at which pg_recvlogical reads: the median over %d rounds of the ratio within each; "+
			"lowest %s, highest %s.", hundredths(of.Median), of.N, hundredths(of.Min), hundredths(of.Max)))
	}
	var carrying []string
	for _, s := range list {
		if of := r.byRound(s.Name, PgRecvlogical); s.ours() && of.N > 0 {
			carrying = append(carrying, fmt.Sprintf("%s %s (lowest %s)", s.variant(), hundredths(of.Median), hundredths(of.Min)))
		}
	}
	if len(carrying) > 0 {
		parts = append(parts, "The whole drain, Kafka included, against pg_recvlogical alone: "+strings.Join(carrying, ", ")+".")
	}
	return strings.Join(parts, " ")
}

// byRound are the ratios of two contestants' rates of draining, each within a round.
func (r RelayResults) byRound(name, base string) Spread {
	bases := make(map[int]float64)
	for _, d := range r.Drains {
		if d.Contestant == base {
			bases[d.Round] = d.Rate
		}
	}
	var ratios []float64
	for _, d := range r.Drains {
		if of := bases[d.Round]; d.Contestant == name && of > 0 {
			ratios = append(ratios, d.Rate/of)
		}
	}
	return spread(ratios)
}

// between writes the ends of a spread of whole numbers.
func between(s Spread) string { return count(int(s.Min)) + " – " + count(int(s.Max)) }
