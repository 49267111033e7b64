package bench

import (
	"fmt"
	"strings"
)

// RatioTable has a line for each rate, with the delays of walpost's deliveries over those of Debezium, tuned, in the same run; the first row is the heading.
func RatioTable(r RelayResults) [][]string {
	list := r.Summaries()
	their := named(list, DebeziumTuned)
	heading := []string{"walpost / Debezium, tuned"}
	var deliveries []Summary
	for _, s := range list {
		if s.ours() && len(s.Latency) > 0 {
			deliveries = append(deliveries, s)
			heading = append(heading, s.variant()+", p50", s.variant()+", p99")
		}
	}
	rows := [][]string{heading}
	if len(deliveries) == 0 {
		return rows
	}
	for _, t := range their.Latency {
		row := []string{count(t.Rate) + "/s"}
		for _, s := range deliveries {
			o, _ := s.at(t.Rate)
			row = append(row, over(o.P50, t.P50), over(o.P99, t.P99))
		}
		rows = append(rows, row)
	}
	if t := their.Alone; t.Events > 0 {
		row := []string{"one event alone"}
		for _, s := range deliveries {
			row = append(row, over(s.Alone.P50, t.P50), over(s.Alone.P99, t.P99))
		}
		rows = append(rows, row)
	}
	return rows
}

// over writes the ratio of two medians, of which one may not have been measured.
func over(our, their Spread) string {
	if our.N == 0 || their.N == 0 || their.Median == 0 {
		return "–"
	}
	return hundredths(our.Median / their.Median)
}

// ratios writes the section that holds walpost against Debezium, tuned, when both were measured.
func (p *page) ratios(r RelayResults, list []Summary) {
	table := RatioTable(r)
	if len(table) == 1 {
		return
	}
	p.add("### Against Debezium, tuned\n")
	p.table(table)
	text := "Ratios of the medians above: below 1 walpost is faster, above 1 Debezium is."
	their := named(list, DebeziumTuned)
	var drains []string
	for _, s := range list {
		if s.ours() && s.Rate.N > 0 && their.Rate.N > 0 {
			drains = append(drains, s.variant()+" "+over(s.Rate, their.Rate))
		}
	}
	if len(drains) > 0 {
		text += fmt.Sprintf(" In draining a backlog, where more is faster: %s.", strings.Join(drains, ", "))
	}
	p.add("%s\n", text)
}
