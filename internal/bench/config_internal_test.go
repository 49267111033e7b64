package bench

import (
	"testing"

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
