package bench_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/bench"
)

// limit is generous: the machine is shared with other suites, and two Java servers start.
const limit = 4 * time.Minute

func TestEveryContestantCarriesEveryEventAndIsMeasured(t *testing.T) {
	stack := realStack(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	rows, rates, hugeRows := 2000, []int{100}, 12_000
	results, err := bench.RunRelay(ctx, bench.RelayConfig{
		Stack: stack, Deliveries: []string{"at-least-once"}, Against: []string{bench.Debezium, bench.PgRecvlogical, bench.WalpostRead},
		Rows: rows, Rates: rates, Duration: 2 * time.Second, Alone: 5, Huge: hugeRows, HugeAgainst: []string{bench.Debezium}, Repeats: 1, Command: "test",
	})
	if err != nil {
		t.Fatalf("RunRelay() = %v, want no error", err)
	}
	var drained []string
	for _, d := range results.Drains {
		drained = append(drained, d.Contestant)
		if want := rows; d.Count.Written != want || d.Contestant != bench.PgRecvlogical && d.Count.Seen != want {
			t.Errorf("drain of %s: count = %+v, want %d written and seen", d.Contestant, d.Count, want)
		}
		if d.Seconds <= 0 || d.Rate <= 0 {
			t.Errorf("drain of %s: %v s, %v events/s, want both above 0", d.Contestant, d.Seconds, d.Rate)
		}
		reads := d.Contestant == bench.PgRecvlogical || d.Contestant == bench.WalpostRead // whose processor time is that of the whole process
		if i := slices.IndexFunc(d.Use, func(u bench.Use) bool { return u.Process == bench.ProcessRelay }); i < 0 || reads && d.Use[i].CPUSeconds <= 0 {
			t.Errorf("drain of %s: use of its process is not measured: %+v", d.Contestant, d.Use)
		}
	}
	slices.Sort(drained)
	if want := []string{bench.Debezium, bench.PgRecvlogical, bench.WalpostWith("at-least-once"), bench.WalpostRead}; !slices.Equal(drained, want) {
		t.Errorf("drained = %v, want %v", drained, want)
	}
	for _, l := range results.Latencies {
		if want := 200; l.Measured != want || l.Curve.At(50) <= 0 || l.Curve.At(100) < l.Curve.At(50) {
			t.Errorf("latency of %s at %d/s: %d measured, p50 %v, max %v, want %d and rising ones", l.Contestant, l.Rate, l.Measured,
				l.Curve.At(50), l.Curve.At(100), want)
		}
		for _, process := range []string{bench.ProcessRelay, bench.ProcessWalsender, bench.ProcessKafka} {
			if i := slices.IndexFunc(l.Use, func(u bench.Use) bool { return u.Process == process }); i < 0 || l.Use[i].PeakMiB < 1 {
				t.Errorf("latency of %s: use of %s is not measured: %+v", l.Contestant, process, l.Use)
			}
		}
	}
	if got, want := len(results.Latencies), 2; got != want {
		t.Errorf("latencies = %d, want %d", got, want)
	}
	for _, a := range results.Alone {
		if early := a.Early > a.Events/2; a.Events != 5 || early != (a.Curve.At(50) == 0) || a.Curve.At(100) < a.Curve.At(50) {
			t.Errorf("alone, %s: %d events, %d of them early, p50 %v, max %v, want 5 and rising ones", a.Contestant, a.Events, a.Early, a.Curve.At(50), a.Curve.At(100))
		}
	}
	if got, want := len(results.Alone), 2; got != want {
		t.Errorf("alone = %d, want %d", got, want)
	}
	for _, d := range results.Huge {
		if d.Count.Seen != hugeRows || d.Rate <= 0 {
			t.Errorf("one transaction, %s: count = %+v at %v/s, want %d seen", d.Contestant, d.Count, d.Rate, hugeRows)
		}
	}
	if got, want := len(results.Huge), 2; got != want {
		t.Errorf("carried one transaction = %d, want %d", got, want)
	}
	fmt.Printf("counts: bench: %d drains, %d latencies, 0 lost\n", len(results.Drains)+len(results.Huge), len(results.Latencies)) //nolint:forbidigo // for internal/suites
}

func TestASoakWatchesMemoryAndTheConfirmedPosition(t *testing.T) {
	stack := realStack(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	const rate, secs = 300, 4
	results, err := bench.RunSoak(ctx, bench.SoakConfig{Stack: stack, Deliveries: []string{"exactly-once"}, Rate: rate, Duration: secs * time.Second, Command: "test"})
	if err != nil {
		t.Fatalf("RunSoak() = %v, want no error", err)
	}
	s := results.Soaks[0]
	if s.Measured != rate*secs || s.Count.Lost != 0 || s.Count.Doubled != 0 || s.Curve.At(99) <= 0 {
		t.Errorf("soak = %d measured, count %+v, p99 %v, want %d, none lost or doubled, and a delay", s.Measured, s.Count, s.Curve.At(99), rate*secs)
	}
	for name, list := range map[string][]float64{"memory": s.MemoryMiB, "lag": s.LagSeconds, "log behind": s.LagMiB} {
		if len(list) != secs {
			t.Errorf("%s = %v, want a value for each of %d seconds", name, list, secs)
		}
	}
	// The relay is behind at some look, since it confirms after the consumer has an event, and never by all of the time measured.
	if least, most := slices.Min(s.MemoryMiB), slices.Max(s.LagSeconds); least < 1 || most <= 0 || most >= secs {
		t.Errorf("memory is at least %v MiB, the position at most %v s behind, want both measured", least, most)
	}
}

func TestAnInterruptedRunLeavesNoProcess(t *testing.T) {
	for name, line := range map[string]string{"while the servers start": "starting PostgreSQL", "while the next lane begins": "drain warm-up"} {
		t.Run(name, func(t *testing.T) {
			stack := realStack(t)
			stack.Dir = filepath.Join(temporary(t), "stack")
			interrupted := errors.New("interrupted")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			stack.Progress = after(t, line, func() { cancel(interrupted) })
			_, err := bench.RunRelay(ctx, bench.RelayConfig{Stack: stack, Deliveries: []string{"at-least-once"}, Against: []string{}, Rows: 1000, Repeats: 1})
			if !errors.Is(err, interrupted) && !errors.Is(err, context.Canceled) {
				t.Errorf("RunRelay(interrupted) = %v, want %v", err, interrupted)
			}
			if left := processesOf(t, stack.Dir); len(left) > 0 {
				t.Errorf("processes left = %v, want none", left)
			}
		})
	}
}

// temporary is a folder that PostgreSQL's account can enter.
func temporary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "walpost-bench-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // best effort in the system's temporary folder
	return dir
}
