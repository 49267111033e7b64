package bench

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWithoutNamesEveryContestantIsMeasured(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{Debezium, DebeziumTuned, DebeziumApplied, PgRecvlogical, WalpostRead}, RelayConfig{}.withDefaults().Against); diff != "" {
		t.Errorf("RelayConfig{}.Against (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{Debezium, DebeziumTuned, DebeziumApplied}, PathConfig{}.withDefaults().Against); diff != "" {
		t.Errorf("PathConfig{}.Against (-want +got):\n%s", diff)
	}
}

func TestTwoDebeziumsSitEveryOtherRoundOut(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		repeats, want int
	}{
		{exactlyOnce, 5, 5},
		{DebeziumTuned, 5, 5},
		{PgRecvlogical, 5, 5},
		{WalpostRead, 5, 5},
		{Debezium, 5, 3},
		{DebeziumApplied, 5, 3},
		{Debezium, 1, 1},
		{DebeziumApplied, 2, 1},
	} {
		if got := roundsOf(test.name, test.repeats); got != test.want {
			t.Errorf("roundsOf(%s, %d) = %d, want %d", test.name, test.repeats, got, test.want)
		}
	}
	if sitsOut(Debezium, 0) {
		t.Error("sitsOut(warm-up) = true, want Java to be warm")
	}
}

func TestTheDefaultsEndWithinHalfAnHour(t *testing.T) {
	t.Parallel()
	cfg := RelayConfig{Deliveries: []string{"at-least-once", "exactly-once"}, Alone: 200, Huge: 1_000_000}
	if got := cfg.Estimate(); got < 20*time.Minute || got > 27*time.Minute {
		t.Errorf("Estimate() = %v, want about 25 minutes", got)
	}
}
