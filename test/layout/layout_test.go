// Package layout_test checks the shape of the house: which package may import which, and that each says what it is.
package layout_test

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/walpost/walpost"

// imports lists, for each room, the packages of this module that it may import directly. A trailing slash stands for a folder and all below it.
// A room that is missing here fails the test, so that a new one is placed on purpose.
var imports = map[string][]string{
	"outbox":                      {"outbox/internal/"},
	"outbox/internal/":            {"outbox", "outbox/internal/"},
	"outbox/outboxpgx":            {"outbox", "outbox/internal/"},
	"outbox/outboxtest":           {"outbox", "outbox/internal/"},
	"record":                      {"outbox"},
	"relay":                       {"record"},
	"relay/pgwal":                 {"record", "relay"},
	"relay/pgwal/":                {"relay"},
	"relay/kafkasink":             {"record", "relay"},
	"inbox":                       {"outbox", "record"},
	"debezium":                    {"record", "relay"},
	"app":                         {"outbox"},
	"app/postgres":                {"app", "outbox", "outbox/outboxpgx"},
	"app/httpapi":                 {"app", "docs/api", "internal/generated/api_models"},
	"app/notify":                  {"app", "inbox", "outbox"},
	"migrations":                  {},
	"docs/api":                    {},
	"docs/api/":                   {},
	"examples/":                   {"outbox", "outbox/outboxpgx", "record", "relay", "relay/pgwal", "relay/kafkasink", "inbox"},
	"internal/config":             {"record"},
	"internal/ops":                {"relay", "inbox", "internal/config"},
	"internal/devstack":           {"internal/devstack/postgres", "record"},
	"internal/swaggerjson/":       {"internal/swaggerjson"},
	"internal/swaggerjson":        {},
	"internal/devstack/child":     {},
	"internal/devstack/postgres":  {"internal/devstack/child"},
	"internal/devstack/childtest": {},
	"internal/devstack/stacktest": {"internal/devstack/maven", "internal/freeport"},
	"internal/devstack/maven":     {},
	"internal/devstack/jvm":       {"internal/devstack/child", "internal/devstack/maven"},
	"internal/devstack/kafka":     {"internal/devstack/child", "internal/devstack/jvm", "internal/devstack/maven"},
	"internal/devstack/connect":   {"internal/devstack/child", "internal/devstack/jvm", "internal/devstack/maven"},
	"internal/devstack/stack":     {"internal/devstack", "internal/devstack/"},
	"internal/bench":              {"debezium", "record", "relay", "relay/", "internal/devstack/", "internal/freeport"},
	"internal/chaos":              {"record", "outbox", "outbox/outboxpgx", "internal/devstack/", "internal/freeport"},
	"internal/generated/":         {},
	"internal/pgtest":             {"internal/devstack/postgres", "internal/freeport", "migrations"},
	"internal/freeport":           {},
	"internal/kafkatest":          {},
	"internal/suites":             {},
	"internal/cli":                {"app", "app/", "debezium", "docs/api", "inbox", "internal/bench", "internal/chaos", "internal/config", "internal/devstack", "internal/devstack/", "internal/ops", "migrations", "outbox", "outbox/outboxpgx", "record", "relay", "relay/"},
	"":                            {"internal/cli"},
}

type pkg struct {
	ImportPath, Dir string
	Imports         []string
	GoFiles         []string
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		if len(p.GoFiles) == 0 {
			continue
		}
		allowed, ok := room(imports, local(p.ImportPath))
		if !ok {
			t.Errorf("package %s has no line in the table of rooms", p.ImportPath)
			continue
		}
		for _, path := range p.Imports {
			if path != module && !strings.HasPrefix(path, module+"/") {
				continue
			}
			if !permits(allowed, local(path)) {
				t.Errorf("%s imports %s, which its room may not", p.ImportPath, path)
			}
		}
	}
}

func TestLibraryUsersLinkOnlyWhatTheyNeed(t *testing.T) {
	t.Parallel()
	pgx := []string{module + "/outbox", "github.com/jackc/", "golang.org/x/text/", "golang.org/x/crypto/", "golang.org/x/sync/"} // pgx and what it needs itself
	for room, allowed := range map[string][]string{
		"outbox":            {module + "/outbox"},
		"outbox/outboxpgx":  pgx,
		"outbox/outboxtest": pgx,
		"record":            {module + "/outbox", module + "/record"},
		"relay":             {module + "/outbox", module + "/record", module + "/relay", "golang.org/x/sync/"},
	} {
		for _, p := range list(t, "-deps", "./"+room) {
			first, _, _ := strings.Cut(p.ImportPath, "/")
			standard := !strings.Contains(first, ".")
			if !standard && !slices.ContainsFunc(allowed, func(prefix string) bool { return strings.HasPrefix(p.ImportPath, prefix) }) {
				t.Errorf("who imports %s links %s", room, p.ImportPath)
			}
		}
	}
}

func TestEveryPackageHasOnePackageComment(t *testing.T) {
	t.Parallel()
	for _, p := range list(t, "./...") {
		var with []string
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if doc := file.Doc.Text(); strings.HasPrefix(doc, "Package ") || strings.HasPrefix(doc, "Command ") {
				with = append(with, name)
			}
		}
		if len(p.GoFiles) > 0 && len(with) != 1 {
			t.Errorf("package %s: package comments in %q, want exactly one", p.ImportPath, with)
		}
	}
}

func room[V any](table map[string]V, path string) (V, bool) {
	if v, ok := table[path]; ok {
		return v, true
	}
	for dir := path; dir != "."; {
		dir = filepath.Dir(dir)
		if v, ok := table[dir+"/"]; ok {
			return v, true
		}
	}
	var none V
	return none, false
}

func permits(allowed []string, path string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool {
		return a == path || (strings.HasSuffix(a, "/") && strings.HasPrefix(path, a))
	})
}

func local(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Dir,Imports,GoFiles"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	var pkgs []pkg
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
}
