package cli_test

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestWhatCannotBeMeasuredIsRefusedBeforeAnythingIsStarted(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"bench_unknown_contestant":    {"bench", "relay", "--against", "debezium,sequin"},
		"bench_nothing_to_time":       {"bench", "relay", "--rows", "10", "--duration", "1ms", "--repeats", "0", "--rates", "0", "--alone", "-1", "--huge", "5"},
		"bench_yardstick_has_no_path": {"bench", "path", "--against", "pg_recvlogical"},
		"bench_no_clients":            {"bench", "path", "--clients", "-1"},
		"bench_huge_not_measured":     {"bench", "relay", "--against", "debezium,walpost-read", "--huge-against", "debezium-tuned,walpost-read"},
		"bench_reading_has_no_path":   {"bench", "path", "--against", "debezium,walpost-read"},
		"bench_read_to_nowhere":       {"bench", "read", "--until", "the end"},
		"bench_soak_of_nothing":       {"bench", "soak", "--rate", "-1", "--duration", "1s", "--deliveries", "at-most-once"},
		"bench_without_subcommand":    {"bench"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := runGolden(t, name, nil, args...); got.code != 2 || got.stdout != "" {
				t.Errorf("exit code = %d, stdout = %q, want 2 and none", got.code, got.stdout)
			}
		})
	}
}

func TestAReportWithoutResultsSaysHowToMakeThem(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "nothing")
	got := walpost(t, nil, "bench", "report", "--out", out)
	if want := "walpost bench relay --out " + out; got.code != 1 || !strings.Contains(got.stderr, want) {
		t.Errorf("exit code = %d, stderr = %q, want 1 and the command %q", got.code, got.stderr, want)
	}
}
