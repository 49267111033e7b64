// Package stacktest gives tests the programs of the real stack: Kafka, Kafka Connect and Debezium.
//
// Only _test.go files import it. Where Java 17 or Maven is missing a test is skipped with a line that says what to install; with CI=true that is a
// failure. The files are fetched once into the user's cache folder and are left there; no server is started here.
package stacktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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
	cache, err := maven.UserCache()
	if err != nil {
		cache = filepath.Join(os.TempDir(), "walpost")
	}
	begin := time.Now()
	resolved.artifacts, resolved.err = maven.Resolve(context.Background(), maven.Config{ //nolint:forbidigo // for all tests of the process, so of none
		Dir: cache, Progress: os.Stderr,
	})
	resolved.took = time.Since(begin)
}

// Reap ends the detached servers of the folder when this process dies before the test has ended, of a time limit for example: nobody else would.
func Reap(t testing.TB, dir string) {
	t.Helper()
	// A line means that the test has ended, the end of the input that this process has.
	reaper := exec.Command("sh", "-c", `read line || for record in "$0"/*.process "$0"/*/process.json; do
		pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$record") && kill -9 $pid; done`, dir)
	reaper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C ends this process, and so wakes it
	life, err := reaper.StdinPipe()
	if err == nil {
		err = reaper.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, err := fmt.Fprintln(life)
		if err := errors.Join(err, reaper.Wait()); err != nil {
			t.Errorf("the reaper of %s: %v", dir, err)
		}
	})
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
