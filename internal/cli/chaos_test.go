package cli_test

import "testing"

func TestACampaignThatCannotBeIsRefusedBeforeAnythingIsStarted(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"chaos_unknown_fault": {"chaos", "--faults", "relay-kill,earthquake"},
		"chaos_no_faults":     {"chaos", "--faults", ""},
		"chaos_no_runs":       {"chaos", "--runs", "0", "--duration", "10ms"},
		"chaos_seed":          {"chaos", "--seed", "-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := runGolden(t, name, nil, args...); got.code != 2 || got.stdout != "" {
				t.Errorf("exit code = %d, stdout = %q, want 2 and none", got.code, got.stdout)
			}
		})
	}
}
