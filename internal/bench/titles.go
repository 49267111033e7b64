package bench

import (
	"fmt"
	"strings"
)

// The titles say what a plot shows, whoever wins: each is made of the figures and of nothing else.

func drainTitle(list []Summary) string {
	our := ours(list)
	if our.Rate.N == 0 {
		return "Draining a backlog"
	}
	title := fmt.Sprintf("Backlog: walpost %s events/s", rate(our.Rate.Median))
	return title + against(list, func(s Summary) string {
		if s.Rate.N == 0 {
			return ""
		}
		return theirName(s.Name) + " " + rate(s.Rate.Median)
	})
}

// titleRate is the rate that a title tells of: the middle one.
func titleRate(r RelayResults) int {
	if len(r.Rates) == 0 {
		return 0
	}
	return r.Rates[len(r.Rates)/2]
}

func latencyTitle(r RelayResults, list []Summary) string {
	at := titleRate(r)
	our, ok := ours(list).at(at)
	if !ok {
		return "Latency"
	}
	title := fmt.Sprintf("At %s events/s: walpost %s", count(at), ms(our.P50.Median))
	return title + against(list, func(s Summary) string {
		l, ok := s.at(at)
		if !ok {
			return ""
		}
		return theirName(s.Name) + " " + ms(l.P50.Median)
	})
}

func costTitle(list []Summary) string {
	our := ours(list)
	if our.Rate.N == 0 {
		return "What it costs"
	}
	title := fmt.Sprintf("Cost: walpost %s µs an event, %s MiB", digits(our.Relay.Median+our.Walsender.Median), digits(our.PeakMiB.Median))
	return title + against(list, func(s Summary) string {
		if s.Rate.N == 0 {
			return ""
		}
		return fmt.Sprintf("%s %s µs, %s MiB", theirName(s.Name), digits(s.Relay.Median+s.Walsender.Median), digits(s.PeakMiB.Median))
	})
}

func pathTitle(list []PathSummary) string {
	var parts []string
	for _, s := range list {
		if s.Rate.N > 0 {
			name := theirName(s.Name)
			if s.ours() {
				name = "walpost"
			}
			parts = append(parts, fmt.Sprintf("%s %s", name, ms(s.Hops[HopAll].Median)))
		}
	}
	return "Request to mail: " + strings.Join(parts, "; ")
}

// against lists what the others have to say.
func against(list []Summary, say func(Summary) string) string {
	var parts []string
	for _, s := range list {
		if s.ours() || s.Name == PgRecvlogical {
			continue
		}
		if text := say(s); text != "" {
			parts = append(parts, text)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "; " + strings.Join(parts, "; ")
}

func theirName(name string) string {
	switch name {
	case Debezium:
		return "Debezium"
	case DebeziumTuned:
		return "tuned"
	case DebeziumApplied:
		return "as applied"
	default:
		return strings.ReplaceAll(name, "-", " ")
	}
}
