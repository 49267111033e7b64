package bench

import (
	"fmt"
	"strings"
)

// The titles say what a plot shows, whoever wins: each is made of the figures and of nothing else.

// figure is what a title tells of a contestant; without text it is left out.
type figure struct {
	Contestant
	text string
}

// titled lists the figures of walpost's deliveries and then those of the Debeziums, each by its own name.
func titled(what string, figures []figure) string {
	var ours, theirs []string
	for _, f := range figures {
		switch {
		case f.text == "":
		case f.ours():
			ours = append(ours, f.variant()+" "+f.text)
		case f.debezium():
			theirs = append(theirs, f.variant()+" "+f.text)
		}
	}
	var groups []string
	if len(ours) > 0 {
		groups = append(groups, "walpost "+strings.Join(ours, ", "))
	}
	if len(theirs) > 0 {
		groups = append(groups, "Debezium "+strings.Join(theirs, ", "))
	}
	if len(groups) == 0 {
		return what
	}
	return what + ": " + strings.Join(groups, "; ")
}

// variant tells a contestant from others of its kind.
func (c Contestant) variant() string {
	switch c.Name {
	case Debezium:
		return "default"
	case DebeziumTuned:
		return "tuned"
	case DebeziumApplied:
		return "as applied"
	}
	return strings.ReplaceAll(strings.TrimPrefix(c.Name, "walpost-"), "-", " ")
}

func drainTitle(list []Summary) string {
	var figures []figure
	for _, s := range list {
		if s.Rate.N > 0 {
			figures = append(figures, figure{s.Contestant, rate(s.Rate.Median)})
		}
	}
	return titled("Backlog, events/s", figures)
}

// titleRate is the rate that a title tells of: the middle one.
func titleRate(r RelayResults) int {
	if len(r.Rates) == 0 {
		return 0
	}
	return r.Rates[len(r.Rates)/2]
}

func latencyTitle(r RelayResults, list []Summary) string {
	var figures []figure
	for _, s := range list {
		if l, ok := s.at(titleRate(r)); ok {
			figures = append(figures, figure{s.Contestant, ms(l.P50.Median)})
		}
	}
	return titled("Median at "+count(titleRate(r))+" events/s", figures)
}

func costTitle(list []Summary) string {
	var figures []figure
	for _, s := range list {
		if s.Rate.N > 0 {
			figures = append(figures, figure{s.Contestant, fmt.Sprintf("%s µs and %s MiB", digits(s.Relay.Median+s.Walsender.Median), digits(s.PeakMiB.Median))})
		}
	}
	return titled("Cost of an event, and memory", figures)
}

func pathTitle(list []PathSummary) string {
	var figures []figure
	for _, s := range list {
		if s.Rate.N > 0 {
			figures = append(figures, figure{s.Contestant, ms(s.Hops[HopAll].Median)})
		}
	}
	return titled("Request to mail", figures)
}
