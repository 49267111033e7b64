package chaos_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/chaos"
)

const (
	runs     = 2 // the long campaign is make chaos
	duration = 10 * time.Second

	limit = 5 * time.Minute // of a run on a machine that is shared with other suites
)

// TestExactlyOnceThroughEveryFault is the relay's promise: whatever is killed or cut off, a consumer of committed records finds each committed event once,
// in order.
func TestExactlyOnceThroughEveryFault(t *testing.T) {
	w := world(t)
	for n := range runs {
		ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("run was not done within %v", limit))
		result, err := w.Run(ctx, chaos.RunConfig{Seed: *seed + uint64(n), Duration: duration})
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
