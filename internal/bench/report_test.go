package bench_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/bench"
)

var update = flag.Bool("update", false, "accept the report as the golden")

// curveOf is a plausible distribution around a median.
func curveOf(median float64) bench.Curve {
	var c bench.Curve
	for _, p := range []struct{ percent, factor float64 }{
		{1, .4}, {5, .5}, {10, .6}, {25, .8}, {50, 1}, {75, 1.3}, {90, 1.8}, {95, 2.1}, {99, 3.2}, {99.9, 5}, {100, 9},
	} {
		c = append(c, bench.Percentile{Percent: p.percent, Ms: median * p.factor})
	}
	return c
}

var about = bench.About{
	Began: time.Date(2026, 11, 25, 18, 0, 0, 0, time.UTC), Minutes: 14.2, Command: "walpost bench relay --out docs",
	Machine: bench.Machine{
		Cores: 2, CPU: "A Processor", MemoryGiB: 8, System: "Debian GNU/Linux 12", Kernel: "6.1", Go: "go1.26", Walpost: "v1 abc", PostgreSQL: "15.18",
		Kafka: "4.3.0", Debezium: "3.7.0.Final", Java: "17.0.19",
	},
	Disks: bench.Disks{Postgres: "ext4 on /dev/vda", Kafka: "tmpfs"},
	Busy:  0.01, Settings: map[string]string{"PostgreSQL": "autovacuum=off"},
}

// relayResults are made up: the report's golden shows what it makes of them.
func relayResults() bench.RelayResults {
	r := bench.RelayResults{
		About: about, Rows: 300_000, Rates: []int{100, 1000, 5000}, Seconds: 10, Repeats: 3,
		Contestants: []bench.Contestant{
			{Name: "walpost-at-least-once", Label: "walpost, at least once", What: "`walpost relay`"},
			{Name: "walpost-exactly-once", Label: "walpost, exactly once", What: "`walpost relay`"},
			{Name: bench.Debezium, Label: "Debezium, default", What: "its own defaults", Settings: map[string]string{"poll.interval.ms": "500"}},
			{Name: bench.DebeziumTuned, Label: "Debezium, tuned", What: "poll 10 ms", Settings: map[string]string{"poll.interval.ms": "10"}},
			{Name: bench.DebeziumApplied, Label: "Debezium, as applied", What: "poll 50 ms", Settings: map[string]string{"poll.interval.ms": "50"}},
			{Name: bench.PgRecvlogical, Label: "pg_recvlogical", What: "the yardstick"},
			{Name: bench.WalpostRead, Label: "walpost, reading alone", What: "to nowhere"},
		},
	}
	for round := 1; round <= 3; round++ {
		for i, c := range r.Contestants {
			speed := []float64{61_000, 44_000, 17_900, 31_000, 46_000, 36_400, 84_000}[i] * (1 + 0.06*float64(round-2))
			if c.Name == bench.WalpostRead {
				speed = []float64{70_000, 91_000, 80_000}[round-1] // not with the others
			}
			r.Drains = append(r.Drains, bench.Drain{
				Contestant: c.Name, Round: round, Count: bench.Count{Written: 300_000, Seen: 300_000}, Start: []float64{0.1, 1.2, 1.2, 1.3, 1.1, 0, 0}[i],
				Rows: 298_000, Seconds: 298_000 / speed, Rate: speed,
				Use: use([]float64{1.6, 1.9, 15.8, 9.9, 12, 2.4, 1.2}[i], []float64{2.1, 2.6, 3.2, 3.1, 3.1, 3, 2.2}[i], []float64{48, 71, 1100, 830, 840, 4, 52}[i]),
			})
			if c.Name == bench.PgRecvlogical || c.Name == bench.WalpostRead {
				continue
			}
			if c.Name == bench.Debezium && round == 2 {
				continue // as every other round in a run of the defaults
			}
			r.Alone = append(r.Alone, bench.Alone{
				Contestant: c.Name, Round: round, Events: []int{200, 200, 18, 200, 120}[i], Curve: curveOf([]float64{1.1, 2.9, 301, 9.3, 38}[i] * (1 + 0.1*float64(round-2))),
			})
			for j, rate := range r.Rates {
				median := [][]float64{{0.9, 1.2, 2.4}, {2.4, 8.9, 34}, {255, 308, 420}, {8.1, 8.9, 21}, {28, 30, 41}}[i][j] * (1 + 0.1*float64(round-2))
				behind := 0
				if c.Name == bench.Debezium && rate == 5000 {
					behind = 9000
				}
				r.Latencies = append(r.Latencies, bench.Latency{
					Contestant: c.Name, Round: round, Rate: rate, Achieved: float64(rate), Count: bench.Count{Written: 73_000, Seen: 73_000},
					Measured: rate * 10, Behind: behind, Curve: curveOf(median), Use: use(0.4, 0.2, 40),
				})
			}
		}
	}
	r.HugeRows, r.AloneWarm = 1_000_000, 2
	for i, name := range []string{"walpost-at-least-once", "walpost-exactly-once", bench.DebeziumTuned} {
		speed := []float64{54_000, 49_000, 27_000}[i]
		r.Huge = append(r.Huge, bench.Drain{
			Contestant: name, Round: 1, Count: bench.Count{Written: 1_000_000, Seen: 1_000_000, Doubled: i / 2 * 3}, Start: 9.5, Rows: 995_000,
			Seconds: 995_000 / speed, Rate: speed, Use: use([]float64{5.2, 6.1, 33}[i], 18, []float64{61, 140, 1650}[i]),
		})
	}
	return r
}

func use(relay, walsender, peak float64) []bench.Use {
	return []bench.Use{
		{Process: bench.ProcessRelay, CPUSeconds: relay, PeakMiB: peak},
		{Process: bench.ProcessWalsender, CPUSeconds: walsender, PeakMiB: 30},
		{Process: bench.ProcessOther, CPUSeconds: 0.1},
		{Process: bench.ProcessStolen, CPUSeconds: 0.2},
	}
}

func pathResults() bench.PathResults {
	r := bench.PathResults{About: about, Clients: 2, Seconds: 10, Repeats: 1, Contestants: relayResults().Contestants[:4]}
	r.About.Command = "walpost bench path --out docs"
	for i, c := range r.Contestants {
		publish := []float64{2.4, 21, 290, 14}[i]
		r.Paths = append(r.Paths, bench.Path{
			Contestant: c.Name, Round: 1, Registrations: 480, Mails: 480, Rate: 48,
			Hops: map[string]bench.Curve{
				bench.HopRequest: curveOf(41), bench.HopPublish: curveOf(publish), bench.HopApply: curveOf(6.1), bench.HopMail: curveOf(4.3),
				bench.HopAll: curveOf(53 + publish),
			},
		})
	}
	return r
}

// soakResults are ten minutes of both deliveries.
func soakResults() bench.SoakResults {
	r := bench.SoakResults{About: about, Rate: 5000, Seconds: 600, Contestants: relayResults().Contestants[:2]}
	r.About.Command = "walpost bench soak --out docs"
	for i, c := range r.Contestants {
		s := bench.Soak{Latency: bench.Latency{
			Contestant: c.Name, Round: 1, Rate: 5000, Achieved: 4987, Count: bench.Count{Written: 3_010_002, Seen: 3_010_002}, Measured: 3_000_000,
			Curve: curveOf(3 + 2*float64(i)), Use: use(190, 95, 70),
		}}
		for second := range 600 {
			wave := math.Sin(float64(second) / 9)
			s.MemoryMiB = append(s.MemoryMiB, 48+20*float64(i)+math.Round(30*(wave+1))/10)
			lag := math.Round(100*(0.12+0.05*wave+0.1*float64(i))) / 100
			if second == 400 {
				lag *= 3
			}
			s.LagSeconds, s.LagMiB = append(s.LagSeconds, lag), append(s.LagMiB, 3.5*lag)
		}
		r.Soaks = append(r.Soaks, s)
	}
	return r
}

func saved(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := errors.Join(bench.SaveRelay(dir, relayResults()), bench.SavePath(dir, pathResults()), bench.SaveSoak(dir, soakResults())); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheReportSaysWhatTheResultsSay(t *testing.T) {
	t.Parallel()
	files, err := bench.Report(saved(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range files {
		golden := filepath.Join("testdata", "report", name)
		if *update {
			if err := errors.Join(os.MkdirAll(filepath.Dir(golden), 0o755), os.WriteFile(golden, got, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatalf("%v: run the test with -update, and look at what it accepted", err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s differs from its golden; -update accepts it (-want +got):\n%s", name, diff)
		}
	}
	if got, want := len(files), 6; got != want {
		t.Errorf("files = %d, want a page and 5 plots", got)
	}
}

func TestWithoutResultsTheReportSaysHowToMakeSome(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := bench.Report(dir); err == nil || !strings.Contains(err.Error(), "walpost bench relay --out "+dir) {
		t.Errorf("Report(empty folder) = %v, want an error with the command to run", err)
	}
}

func TestThePageInDocsIsMadeFromTheResultsBesideIt(t *testing.T) {
	t.Parallel()
	docs := filepath.Join("..", "..", "docs")
	if _, err := os.Stat(filepath.Join(docs, bench.Folder)); errors.Is(err, os.ErrNotExist) {
		return // nothing has been measured for it yet
	}
	files, err := bench.Report(docs)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(docs, name)); err != nil || string(got) != string(want) {
			t.Errorf("docs/%s is not what the results give (%v): run `go run . bench report --out docs`", name, err)
		}
	}
}

func TestNoTextLeavesItsPlot(t *testing.T) {
	t.Parallel()
	files, err := bench.Report(saved(t))
	if err != nil {
		t.Fatal(err)
	}
	letters := map[string]float64{ // DejaVu Sans, the widest
		"title": 19 * .63, "sub": 13 * .56, "name": 14 * .63, "what": 12 * .56, "value": 15 * .63, "small": 12 * .56, "head": 14 * .63, "in": 12 * .63,
	}
	for name, content := range files {
		if filepath.Ext(name) != ".svg" {
			continue
		}
		for _, text := range textsOf(t, name, content) {
			wide := float64(len([]rune(text.Text))) * letters[text.Class]
			left := text.X
			switch text.Anchor {
			case "middle":
				left -= wide / 2
			case "end":
				left -= wide
			}
			if left < 8 || left+wide > 860 || letters[text.Class] == 0 {
				t.Errorf("%s: text %q of class %q reaches from %.0f to %.0f, want it within 8 and 860", name, text.Text, text.Class, left, left+wide)
			}
		}
	}
}

type svgText struct {
	Class, Anchor, Text string
	X                   float64
}

func textsOf(t *testing.T, name string, content []byte) []svgText {
	t.Helper()
	var texts []svgText
	for decoder := xml.NewDecoder(strings.NewReader(string(content))); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return texts
		}
		if err != nil {
			t.Fatalf("%s is not well formed: %v", name, err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "text" {
			continue
		}
		var text svgText
		for _, a := range start.Attr {
			switch a.Name.Local {
			case "class":
				text.Class = a.Value
			case "text-anchor":
				text.Anchor = a.Value
			case "x":
				text.X, _ = strconv.ParseFloat(a.Value, 64) // not a number: 0, which is outside
			}
		}
		if err := decoder.DecodeElement(&text.Text, &start); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		texts = append(texts, text)
	}
}
