package deploy_test

import (
	"regexp"
	"strings"
	"testing"
)

// ours is a command line of walpost in a text: in a block of its own or between backquotes, as `walpost ...` or `go run . ...`.
var ours = regexp.MustCompile("(?:^|`|&& )(?:[A-Z_]+=\\S+ )*(?:walpost|go run (?:\\.|main\\.go)) ([a-z][^`#&\n]*)")

// What the guides tell to type is parsed by the program, flags included.
func TestCommandsOfTheGuidesExist(t *testing.T) {
	t.Parallel()
	for _, file := range [][]string{{"docs", "debezium.md"}, {"docs", "chaos.md"}, {"deploy", "compose.yaml"}, {"deploy", ".env"}} {
		name := strings.Join(file, "/")
		seen := make(map[string]bool)
		for line := range strings.Lines(read(t, file...)) {
			for _, match := range ours.FindAllStringSubmatch(strings.TrimLeft(line, " #"), -1) {
				seen[strings.TrimSpace(match[1])] = true
			}
		}
		for line := range seen {
			if _, err := help(t, words(line)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if name == "docs/debezium.md" && len(seen) < 15 {
			t.Errorf("%s names %d commands, want at least 15: are they written another way?", name, len(seen))
		}
	}
}

// The relay's container delivers exactly once, and so halts on a slot that Debezium has used until that is adopted.
func TestTheGuidesWayFromDebeziumToWalpostAdoptsTheSlot(t *testing.T) {
	t.Parallel()
	relay := everything(t).Services["relay"]
	if line := strings.Join(relay.Command, " "); line != "relay" || relay.Environment["WALPOST_DELIVERY"] != nil {
		t.Errorf("service relay runs %q with WALPOST_DELIVERY=%v, want the default delivery", line, relay.Environment["WALPOST_DELIVERY"])
	}
	found := 0
	for line := range strings.Lines(read(t, "docs", "debezium.md")) {
		before, _, up := strings.Cut(line, "COMPOSE_PROFILES=walpost docker compose up -d")
		if !up {
			continue
		}
		found++
		if want := "go run . connector stop && go run . slot adopt && "; strings.TrimSpace(before) != strings.TrimSpace(want) {
			t.Errorf("docs/debezium.md: before the relay's container starts %q, want %q", before, want)
		}
	}
	if found != 1 {
		t.Errorf("docs/debezium.md starts the relay's container %d times, want once: is the command written another way?", found)
	}
}

// words are those of a command line; nothing in the guides is quoted that holds a blank.
func words(line string) []string {
	var list []string
	for _, word := range strings.Fields(line) {
		if word == "..." {
			continue
		}
		list = append(list, strings.Trim(word, "'"))
	}
	return list
}
