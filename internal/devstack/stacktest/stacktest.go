// Package stacktest gives tests the programs of the real stack: Kafka, Kafka Connect and Debezium.
//
// Only _test.go files import it. Where Java 17 or Maven is missing a test is skipped with a line that says what to install; with CI=true that is a
// failure. The files are fetched once into the user's cache folder and are left there; nothing is started here.
package stacktest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/devstack/maven"
	"github.com/walpost/walpost/internal/freeport"
)

// resolved is what all tests of this process use, and how long it took to get it.
var resolved struct {
	once      sync.Once
	artifacts maven.Artifacts
	took      time.Duration
	err       error
}

// Artifacts are the programs of the stack.
func Artifacts(t testing.TB) maven.Artifacts {
	t.Helper()
	resolved.once.Do(resolve)
	switch {
	case resolved.err == nil:
		return resolved.artifacts
	case os.Getenv("CI") == "true": //nolint:forbidigo // decides whether a test may be left out, in tests only
		t.Fatalf("the real stack: %v", resolved.err)
	default:
		t.Skipf("the real stack needs Java 17 and Maven: %v", resolved.err)
	}
	return maven.Artifacts{}
}

// Took is how long the first call of Artifacts took.
func Took() time.Duration { return resolved.took }

func resolve() {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	begin := time.Now()
	resolved.artifacts, resolved.err = maven.Resolve(context.Background(), maven.Config{ //nolint:forbidigo // for all tests of the process, so of none
		Dir: filepath.Join(cache, "walpost"), Progress: os.Stderr,
	})
	resolved.took = time.Since(begin)
}

// Addr is a loopback address whose port was free a moment ago.
func Addr(t testing.TB) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// ResidentMiB is how much memory of the machine the process takes. It skips the test where the system does not tell.
func ResidentMiB(t testing.TB, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("the memory of a process is read from /proc: %v", err)
	}
	var kib int
	_, text, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(text, &kib); err != nil {
		t.Fatalf("VmRSS of process %d: %v", pid, err)
	}
	return kib >> 10
}
