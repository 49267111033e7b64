package chaos_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/chaos"
)

const (
	duration = 10 * time.Second // the long campaign is make chaos

	limit = 5 * time.Minute // of a run on a machine that is shared with other suites
)

// TestExactlyOnceThroughEveryFault is the relay's promise: whatever is killed or cut off, a consumer of committed records finds each committed event once,
// in order.
func TestExactlyOnceThroughEveryFault(t *testing.T) {
	w := world(t)
	// A broker that comes back takes most of a short run.
	without := slices.DeleteFunc(chaos.Kinds(), func(k chaos.Kind) bool { return k == chaos.BrokerKill })
	with := []chaos.Kind{chaos.BrokerKill, chaos.ServerKill, chaos.RelayZombie}
	for n, faults := range [][]chaos.Kind{without, with} {
		ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("run was not done within %v", limit))
		result, err := w.Run(ctx, chaos.RunConfig{Seed: *seed + uint64(n), Duration: duration, Faults: faults})
		cancel()
		if err != nil {
			t.Fatalf("seed %d: %v", *seed+uint64(n), err)
		}
		if !result.Verdict.Good() {
			t.Errorf("seed %d: %s: %q", result.Seed, result.Verdict, result.Verdict.Examples)
		}
		if result.Counts.Events == 0 || result.Counts.Records != result.Counts.Events {
			t.Errorf("seed %d: %d events were committed and %d records are visible, want as many, and some", result.Seed, result.Counts.Events, result.Counts.Records)
		}
		fmt.Println("counts: chaos:", chaos.Report{Runs: []chaos.Result{result}, Sum: result}.Summary())
	}
}
