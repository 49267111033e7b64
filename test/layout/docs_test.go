package layout_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/walpost/walpost/relay"
)

func operations(t *testing.T) string {
	t.Helper()
	return document(t, "operations.md")
}

// document is a guide as it stands.
func document(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestEveryHaltIsDocumented(t *testing.T) {
	t.Parallel()
	guide := operations(t)
	for cause := relay.SlotMissing; cause <= relay.Unpublishable; cause++ {
		if row := fmt.Sprintf("| %d | `%s` |", cause.ExitCode(), cause); !strings.Contains(guide, row) {
			t.Errorf("docs/operations.md has no row %q", row)
		}
	}
}

// A metric's name stands in the source whole, or as its last part behind a namespace.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	guide := operations(t)
	sources, err := filepath.Glob(filepath.Join("..", "..", "internal", "ops", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`"(?:walpost_)?([a-z_]+_(?:total|bytes|seconds|info|records|status|state|health|partitions|gap|fill|delivery))"`)
	found := 0
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range names.FindAllStringSubmatch(string(content), -1) {
			found++
			if !strings.Contains(guide, match[1]+"`") {
				t.Errorf("docs/operations.md does not mention the metric %s of %s", match[1], filepath.Base(path))
			}
		}
	}
	if found < 15 {
		t.Errorf("metrics found in internal/ops = %d, want at least 15: has the way they are named changed?", found)
	}
}
