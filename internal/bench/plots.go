package bench

import (
	"fmt"
	"math"
	"slices"
)

const (
	nameWidth = 178 // of the column with the contestants' names
	rowHeight = 54
	barHeight = 30
)

// drainPlot shows who drains a backlog how fast.
func drainPlot(r RelayResults) []byte {
	list := r.Summaries()
	d, y := draw(drainTitle(list), fmt.Sprintf("Events a second from a backlog of %s, commit log to consumer. Bar: median; line: lowest to highest.",
		count(r.Rows)))
	left, right := float64(margin+nameWidth), float64(plotWidth-margin-166)
	yardstick := named(list, PgRecvlogical)
	most := yardstick.Rate.Max
	carried := slices.DeleteFunc(list, func(s Summary) bool { return s.Rate.N == 0 || !s.carries() })
	for _, s := range carried {
		most = max(most, s.Rate.Max)
	}
	x := func(v float64) float64 { return left + v/max(most, 1)*(right-left) }
	top := y
	if yardstick.Rate.N > 0 {
		y += 22
	}
	first := y
	for _, s := range carried {
		y = d.bar(y, s.Contestant, colour(s.Contestant), s.Rate, x)
	}
	if yardstick.Rate.N > 0 {
		d.yardstick(x(yardstick.Rate.Median), top, y-rowHeight+barHeight+6, (left+right)/2, yardstick)
	}
	base := named(carried, Debezium).Rate.Median
	for i, s := range carried { // above the yardstick's line
		at, row := x(max(s.Rate.Median, s.Rate.Max))+10, first+float64(i)*rowHeight
		d.text(at, row+20, "value", "", rate(s.Rate.Median)+"/s")
		if base > 0 && s.Name != Debezium {
			d.text(at, row+36, "small", "", times(s.Rate.Median/base)+" Debezium's default")
		}
	}
	return d.finish(y - 12)
}

// yardstick draws a dashed line with its name on the side where there is room.
func (d *drawing) yardstick(x, top, bottom, centre float64, s Summary) {
	d.line(x, top+8, x, bottom, "yard")
	anchor, shift := "", 6.0
	if x > centre {
		anchor, shift = "end", -6
	}
	d.text(x+shift, top+10, "small", anchor, s.Name+", which only reads: "+rate(s.Rate.Median)+"/s")
}

// bar draws a contestant's name and a bar to the median with the spread on it; it returns the next row's y.
func (d *drawing) bar(y float64, c Contestant, class string, s Spread, x func(float64) float64) float64 {
	d.name(y, c)
	d.rect(x(0), y, x(s.Median)-x(0), barHeight, 4, class)
	if s.Max > s.Min {
		middle := y + barHeight/2
		d.line(x(s.Min), middle, x(s.Max), middle, "mark")
		d.line(x(s.Min), middle-5, x(s.Min), middle+5, "mark")
		d.line(x(s.Max), middle-5, x(s.Max), middle+5, "mark")
	}
	return y + rowHeight
}

// name draws a contestant's name in two lines.
func (d *drawing) name(y float64, c Contestant) {
	first, second := c.lines()
	d.text(margin, y+14, "name", "", first)
	d.text(margin, y+30, "what", "", second)
}

// lines are a contestant's name and what tells it from others of that name.
func (c Contestant) lines() (first, second string) {
	switch c.Name {
	case Debezium:
		return "Debezium", "default: poll 500 ms"
	case DebeziumTuned:
		return "Debezium, tuned", "poll 10 ms, large batches"
	case DebeziumApplied:
		return "Debezium", "connector apply: poll 50 ms"
	}
	if c.ours() {
		return "walpost", c.Label[len("walpost, "):]
	}
	return c.Label, ""
}

// latencyPlot shows how long an event takes, for each rate, on one logarithmic scale.
func latencyPlot(r RelayResults) []byte {
	list := r.Summaries()
	d, y := draw(latencyTitle(r, list), "Milliseconds from the return of the commit to the consumer, logarithmic. Dot: median; bar: to the 99th percentile; "+
		"thin line: to the slowest event.")
	left, right := float64(margin+nameWidth), float64(plotWidth-margin-16)
	low, high := scale(list)
	x := func(v float64) float64 {
		return left + (math.Log10(max(v, low))-math.Log10(low))/(math.Log10(high)-math.Log10(low))*(right-left)
	}
	for _, at := range r.Rates {
		d.text(margin, y+4, "head", "", count(at)+" events/s")
		y += 20
		top := y
		rows := 0
		for _, s := range list {
			if _, ok := s.at(at); ok {
				rows++
			}
		}
		bottom := top + float64(rows)*latencyRow
		for v := low; v <= high*1.001; v *= 10 {
			d.line(x(v), top-6, x(v), bottom-4, "grid")
			d.text(x(v), bottom+12, "small", "middle", axis(v))
		}
		for _, s := range list {
			if l, ok := s.at(at); ok {
				d.delay(y, s.Contestant, colour(s.Contestant), l, x, right)
				y += latencyRow
			}
		}
		y += 40
	}
	return d.finish(y - 20)
}

const latencyRow = 46

func (d *drawing) delay(y float64, c Contestant, class string, l LatencySummary, x func(float64) float64, right float64) {
	d.name(y-4, c)
	middle := y + 9.0
	d.rect(x(l.P50.Median), middle-1, x(l.Max.Median)-x(l.P50.Median), 2, 1, class)
	d.rect(x(l.P50.Median), middle-6, x(l.P99.Median)-x(l.P50.Median), 12, 6, class+" faint")
	d.dot(x(l.P50.Median), middle, 7, class)
	d.rect(x(l.P99.Median)-1.5, middle-7, 3, 14, 1, class)
	text := fmt.Sprintf("p50 %s · p99 %s", ms(l.P50.Median), ms(l.P99.Median))
	at := min(x(l.P50.Median)-6, right-width(text, 6.6))
	d.text(at, middle+23, "small", "", text)
}

// scale is from the power of ten below the smallest median to the one above the largest maximum.
func scale(list []Summary) (low, high float64) {
	low, high = math.Inf(1), 0
	for _, s := range list {
		for _, l := range s.Latency {
			low, high = min(low, l.P50.Median), max(high, l.Max.Median)
		}
	}
	if high == 0 {
		return 1, 10
	}
	low = math.Pow10(int(math.Floor(math.Log10(max(low, 0.1)))))
	return low, max(math.Pow10(int(math.Ceil(math.Log10(high)))), low*10)
}

func axis(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%g s", v/1000)
	}
	return fmt.Sprintf("%g ms", round(v, 2))
}

// costPlot shows what a contestant takes from the machine: processor time an event, and memory.
func costPlot(r RelayResults) []byte {
	list := r.Summaries()
	d, y := draw(costTitle(list), "Left: microseconds of processor time an event while draining, in the relay (strong) and in PostgreSQL's walsender (faint). "+
		"Right: most memory of the relay's process, of Debezium the Kafka Connect worker's.")
	left, middle, right := float64(margin+nameWidth), float64(margin+nameWidth+330), float64(plotWidth-margin)
	time, memory := 0.0, 0.0
	for _, s := range list {
		time, memory = max(time, s.Relay.Median+s.Walsender.Median), max(memory, s.PeakMiB.Median)
	}
	d.text(left, y+4, "head", "", "Processor time an event")
	d.text(middle, y+4, "head", "", "Memory")
	y += 18
	for _, s := range list {
		if s.Rate.N == 0 || !s.carries() {
			continue
		}
		class := colour(s.Contestant)
		d.name(y, s.Contestant)
		own, server := s.Relay.Median/max(time, 1)*240, s.Walsender.Median/max(time, 1)*240
		d.rect(left, y, own, barHeight, 4, class)
		d.rect(left+own, y, server, barHeight, 4, class+" faint")
		d.text(left+own+server+8, y+20, "value", "", digits(s.Relay.Median+s.Walsender.Median)+" µs")
		taken := s.PeakMiB.Median / max(memory, 1) * (right - middle - 90)
		d.rect(middle, y, taken, barHeight, 4, class)
		d.text(middle+taken+8, y+20, "value", "", digits(s.PeakMiB.Median)+" MiB")
		y += rowHeight
	}
	return d.finish(y - 12)
}

// pathPlot shows where the time goes between the request and the mail.
func pathPlot(r PathResults) []byte {
	list := r.Summaries()
	d, y := draw(pathTitle(list), fmt.Sprintf("Medians of each hop in milliseconds, %d clients that register as fast as they are answered. "+
		"The request is mostly the password's argon2id hash.", r.Clients))
	left, right := float64(margin+nameWidth), float64(plotWidth-margin-90)
	hops := []struct{ hop, label string }{
		{HopRequest, "request → commit"}, {HopPublish, "commit → topic"}, {HopApply, "topic → applied"}, {HopMail, "applied → mail"},
	}
	at := left
	for i, h := range hops {
		d.rect(at, y-8, 12, 12, 3, fmt.Sprintf("h%d", i))
		d.text(at+18, y+3, "small", "", h.label)
		at += 34 + width(h.label, 6.6)
	}
	y += 22
	most := 0.0
	for _, s := range list {
		sum := 0.0
		for _, h := range hops {
			sum += s.Hops[h.hop].Median
		}
		most = max(most, sum)
	}
	for _, s := range list {
		if s.Rate.N == 0 {
			continue
		}
		d.name(y, s.Contestant)
		x := left
		for i, h := range hops {
			wide := s.Hops[h.hop].Median / max(most, 1) * (right - left)
			d.rect(x, y, wide, barHeight, 2, fmt.Sprintf("h%d", i))
			if text := digits(s.Hops[h.hop].Median); width(text, 8) < wide {
				d.text(x+wide/2, y+20, "in", "middle", text)
			}
			x += wide
		}
		d.text(x+10, y+20, "value", "", ms(s.Hops[HopAll].Median))
		y += rowHeight
	}
	return d.finish(y - 12)
}
