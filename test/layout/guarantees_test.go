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

// named is a test in docs/guarantees.md: package.TestName, and with a slash what one of its parts is called.
var named = regexp.MustCompile("`(relay|pgwal|kafkasink)\\.(Test\\w+)(?:/([^`]+))?`")

func TestEveryTestOfTheGuaranteesExists(t *testing.T) {
	t.Parallel()
	guide := document(t, "guarantees.md")
	sources := map[string]string{
		"relay": testsOf(t, "relay"), "pgwal": testsOf(t, "relay", "pgwal"), "kafkasink": testsOf(t, "relay", "kafkasink"),
	}
	found := 0
	for _, match := range named.FindAllStringSubmatch(guide, -1) {
		found++
		source := sources[match[1]]
		if !strings.Contains(source, "\nfunc "+match[2]+"(t *testing.T)") {
			t.Errorf("docs/guarantees.md names %s.%s, which is no test", match[1], match[2])
		}
		if part := match[3]; part != "" && !strings.Contains(source, `"`+part+`"`) {
			t.Errorf("docs/guarantees.md names %s.%s/%s, and no part of a test is called so", match[1], match[2], part)
		}
	}
	if found < 70 {
		t.Errorf("docs/guarantees.md names %d tests, want at least 70: are they written another way?", found)
	}
}

func TestEveryRuleAndEveryHaltIsGuaranteed(t *testing.T) {
	t.Parallel()
	guide := document(t, "guarantees.md")
	rows := []string{}
	for rule := 1; rule <= 10; rule++ {
		rows = append(rows, fmt.Sprintf("| %d |", rule))
	}
	for cause := relay.SlotMissing; cause <= relay.Unpublishable; cause++ {
		rows = append(rows, fmt.Sprintf("| `%s` |", cause))
	}
	for _, row := range rows {
		_, rest, ok := strings.Cut(guide, "\n"+row)
		line, _, _ := strings.Cut(rest, "\n")
		if !ok || !named.MatchString(line) {
			t.Errorf("docs/guarantees.md has no row %q with a test", row)
		}
	}
}

// testsOf is the text of a package's test files.
func testsOf(t *testing.T, folder ...string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(append(append([]string{"..", ".."}, folder...), "*_test.go")...))
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(content)
	}
	return text.String()
}
