package config

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A field without an option would stay at its zero value whatever the operator sets. Internal, because the struct's keys are.
func TestTheTableAndTheStructHaveTheSameKeys(t *testing.T) {
	t.Parallel()
	fields := slices.Sorted(maps.Keys(Config{}.fields()))
	table := slices.Sorted(slices.Values(names()))
	if diff := cmp.Diff(table, fields); diff != "" {
		t.Errorf("keys (-table +struct):\n%s", diff)
	}
}
