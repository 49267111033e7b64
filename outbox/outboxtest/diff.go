package outboxtest

import (
	"fmt"
	"strings"
)

// diff shows the events side by side as go-cmp would. Equal events at both ends are one line each, so that one
// missing event does not make all that follow look different.
func diff(want []fields, got []appended) string {
	head := 0
	for head < min(len(want), len(got)) && want[head].matches(got[head].fields) {
		head++
	}
	tail := 0
	for tail < min(len(want), len(got))-head && want[len(want)-1-tail].matches(got[len(got)-1-tail].fields) {
		tail++
	}
	var text strings.Builder
	for _, w := range want[:head] {
		equalEvent(&text, w)
	}
	for i := head; i < max(len(want), len(got))-tail; i++ {
		switch {
		case i >= len(want)-tail:
			wholeEvent(&text, '+', got[i].fields)
		case i >= len(got)-tail:
			wholeEvent(&text, '-', want[i])
		default:
			differentEvent(&text, want[i], got[i].fields)
		}
	}
	for _, w := range want[len(want)-tail:] {
		equalEvent(&text, w)
	}
	return text.String()
}

func equalEvent(text *strings.Builder, f fields) {
	fmt.Fprintf(text, "  {AggregateType: %s, AggregateID: %s, Type: %s, …}\n", f[1], f[2], f[3])
}

func wholeEvent(text *strings.Builder, sign byte, f fields) {
	fmt.Fprintf(text, "%c {\n", sign)
	for i, name := range names {
		if f[i] != anything {
			fmt.Fprintf(text, "%c     %s: %s\n", sign, name, clip(f[i], 0))
		}
	}
	fmt.Fprintf(text, "%c }\n", sign)
}

func differentEvent(text *strings.Builder, want, got fields) {
	text.WriteString("  {\n")
	for i, name := range names {
		if want[i] == anything || want[i] == got[i] {
			fmt.Fprintf(text, "      %s: %s\n", name, clip(got[i], 0))
			continue
		}
		at := firstDifference(want[i], got[i])
		fmt.Fprintf(text, "-     %s: %s\n", name, clip(want[i], at))
		fmt.Fprintf(text, "+     %s: %s\n", name, clip(got[i], at))
	}
	text.WriteString("  }\n")
}

func firstDifference(a, b string) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return i
}

// clip shortens a long text to what surrounds position at.
func clip(s string, at int) string {
	const before, after = 60, 140
	from, to := 0, len(s)
	if at > before {
		from = at - before
	}
	if to > from+before+after {
		to = from + before + after
	}
	short := strings.ToValidUTF8(s[from:to], "�")
	if from > 0 {
		short = "…" + short
	}
	if to < len(s) {
		short += fmt.Sprintf("… (%d bytes)", len(s))
	}
	return short
}
