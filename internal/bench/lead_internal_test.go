package bench

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEveryFigureInWhichWalpostIsBehindIsNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		measures []measure
		want     string
	}{
		"ahead_where_less_is_better": {[]measure{{"p99", 8, 20, false, "ms", digits}}, "Of 1 figures walpost is ahead in 1, and behind in none."},
		"ahead_where_more_is_better": {[]measure{{"the rate", 20, 8, true, "events/s", rate}}, "Of 1 figures walpost is ahead in 1, and behind in none."},
		"behind_in_one_of_each": {
			[]measure{{"p99", 20, 8, false, "ms", digits}, {"the rate", 8, 20, true, "events/s", rate}, {"memory", 1, 2, false, "MiB", digits}},
			"Of 3 figures walpost is ahead in 1 and **behind in 2**: p99 (20 against 8.0 ms), the rate (8 against 20 events/s).",
		},
		"even_where_the_figures_read_alike": {
			[]measure{{"p99", 20.2, 20.1, false, "ms", digits}, {"the median", 3, 2, false, "ms", digits}},
			"Of 2 figures walpost is ahead in 0, even in 1 and **behind in 1**: the median (3.0 against 2.0 ms).",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := score(test.measures); got != test.want {
				t.Errorf("score() = %q, want %q", got, test.want)
			}
		})
	}
}

// opposed is a run of both deliveries and one Debezium, which wins whatever a factor above 1 makes worse for walpost.
func opposed(factor float64) RelayResults {
	r := RelayResults{Rates: []int{1000}, Seconds: 1, Repeats: 1}
	for i, name := range []string{"walpost-at-least-once", exactlyOnce, DebeziumTuned} {
		worse := factor
		if i == 2 {
			worse = 1
		}
		use := []Use{{ProcessRelay, worse, 100 * worse}, {ProcessWalsender, worse, 100}}
		r.Contestants = append(r.Contestants, Contestant{Name: name, Label: name})
		r.Drains = append(r.Drains, Drain{Contestant: name, Round: 1, Rows: 1000, Start: worse, Rate: 1000 / worse, Use: use})
		r.Latencies = append(r.Latencies, Latency{Contestant: name, Round: 1, Rate: 1000, Curve: Curve{{50, 10 * worse}, {90, 15 * worse}, {99, 20 * worse}, {100, 30 * worse}}, Use: use})
	}
	return r
}

func TestTheLeadIsHonestWhoeverWins(t *testing.T) {
	t.Parallel()
	walks := PathResults{Contestants: []Contestant{{Name: exactlyOnce}, {Name: DebeziumTuned}}, Paths: []Path{
		{Contestant: exactlyOnce, Rate: 1, Hops: map[string]Curve{HopAll: {{50, 90}, {99, 300}}}},
		{Contestant: DebeziumTuned, Rate: 1, Hops: map[string]Curve{HopAll: {{50, 60}, {99, 400}}}},
	}}
	r := opposed(2)
	text := lead(found{relay: &r, path: &walks})
	for _, want := range []string{
		"a backlog drains at 0.50× the rate; at 1,000 events a second the median latency is 20 ms instead of 10 ms, and p99 40 ms instead of 20 ms; 200 instead of 100 MiB",
		"**behind in 8**: draining a backlog (500 against 1,000 events/s), the start to the first event (2.0 against 1.0 s), processor time an event (4,000 against 2,000 µs), " +
			"memory (200 against 100 MiB), the median at 1,000/s (20 against 10 ms), p99 at 1,000/s (40 against 20 ms), " +
			"processor time at 1,000/s (400 against 200 % of a core), the median from request to mail (90 against 60 ms).",
		"Of 9 figures walpost is ahead in 1 and **behind in 8**", // its p99 from request to mail
		"Of 7 figures walpost is ahead in 0 and **behind in 7**", // at least once has no whole way here
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lead(walpost is slower) =\n%s\nwant in it %q", text, want)
		}
	}
	r = opposed(0.5)
	text = lead(found{relay: &r})
	if got := strings.Count(text, "Of 7 figures walpost is ahead in 7, and behind in none."); got != 2 || strings.Contains(text, "**behind") {
		t.Errorf("lead(walpost is faster) =\n%s\nwant both deliveries ahead in all of 7", text)
	}
	if once, least := strings.Index(text, exactlyOnce), strings.Index(text, "at-least-once"); once < 0 || least < once {
		t.Errorf("lead() =\n%s\nwant exactly once before at least once", text)
	}
}

func TestWhatIsLostOrDoubledAnywhereIsToldAtTheTop(t *testing.T) {
	t.Parallel()
	r := opposed(1)
	f := found{relay: &r, path: &PathResults{}, soak: &SoakResults{}}
	if got, want := accounted(f), "Nobody lost or doubled an event while being measured."; got != want {
		t.Errorf("accounted(nothing) = %q, want %q", got, want)
	}
	r.Drains[0].Count.Doubled, r.Latencies[0].Count.Doubled = 1, 1
	r.Huge = []Drain{{Contestant: exactlyOnce, Count: Count{Doubled: 1}}}
	f.path.Contestants, f.path.Paths = []Contestant{{Name: exactlyOnce}}, []Path{{Contestant: exactlyOnce, Doubled: 1}}
	f.soak.Soaks = []Soak{{Latency: Latency{Count: Count{Doubled: 1}}}}
	if got, want := accounted(f), "Nobody lost an event while being measured. Doubled: 5, by whom is in the tables."; got != want {
		t.Errorf("accounted(doubled in each kind) = %q, want %q", got, want)
	}
}

func TestTitlesTellTheContestantsApart(t *testing.T) {
	t.Parallel()
	r := opposed(2)
	list := r.Summaries()
	for got, want := range map[string]string{
		drainTitle(list):      "Backlog, events/s: walpost exactly once 500, at least once 500; Debezium tuned 1,000",
		latencyTitle(r, list): "Median at 1,000 events/s: walpost exactly once 20 ms, at least once 20 ms; Debezium tuned 10 ms",
		costTitle(list):       "Cost of an event, and memory: walpost exactly once 4,000 µs and 200 MiB, at least once 4,000 µs and 200 MiB; Debezium tuned 2,000 µs and 100 MiB",
		pathTitle([]PathSummary{
			{Contestant: Contestant{Name: exactlyOnce}, Rate: Spread{N: 1}, Hops: map[string]Spread{HopAll: {Median: 90}}},
			{Contestant: Contestant{Name: "walpost-at-least-once"}, Rate: Spread{N: 1}, Hops: map[string]Spread{HopAll: {Median: 80}}},
		}): "Request to mail: walpost exactly once 90 ms, at least once 80 ms",
		drainTitle(nil): "Backlog, events/s",
	} {
		if got != want {
			t.Errorf("title = %q, want %q", got, want)
		}
	}
}

func TestRatiosHoldWalpostAgainstDebeziumTuned(t *testing.T) {
	t.Parallel()
	r := opposed(2)
	r.Latencies[0].Curve = Curve{{50, 3}, {90, 4}, {99, 5}, {100, 6}} // at least once
	r.Alone = []Alone{{Contestant: exactlyOnce, Events: 9, Curve: Curve{{50, 4}, {99, 30}}}, {Contestant: DebeziumTuned, Events: 9, Curve: Curve{{50, 16}, {99, 20}}}}
	want := [][]string{
		{"walpost / Debezium, tuned", "exactly once, p50", "exactly once, p99", "at least once, p50", "at least once, p99"},
		{"1,000/s", "2.00×", "2.00×", "0.30×", "0.25×"},
		{"one event alone", "0.25×", "1.50×", "–", "–"},
	}
	if diff := cmp.Diff(want, RatioTable(r)); diff != "" {
		t.Errorf("RatioTable() (-want +got):\n%s", diff)
	}
	var p page
	p.ratios(r, r.Summaries())
	if want := "where more is faster: exactly once 0.50×, at least once 0.50×."; !strings.Contains(p.String(), want) {
		t.Errorf("page =\n%s\nwant in it %q", p.String(), want)
	}
	r.Contestants = r.Contestants[:2]
	if got := RatioTable(r); len(got) != 1 {
		t.Errorf("RatioTable(without Debezium) = %v, want the heading alone", got)
	}
}
