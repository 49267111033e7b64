package bench_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/bench"
	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

// binary is walpost, built once for all tests into a temporary folder.
var binary struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	_ = os.RemoveAll(binary.dir) // best effort in the system's temporary folder
	os.Exit(code)
}

func walpost(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "walpost-bench-test-"); binary.err != nil {
			return
		}
		build := exec.Command("go", "build", "-o", filepath.Join(binary.dir, "walpost"), "../..")
		if out, err := build.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("build: %w: %s", err, out)
		}
	})
	if binary.err != nil {
		t.Fatal(binary.err)
	}
	return filepath.Join(binary.dir, "walpost")
}

// realStack is what a measurement starts from on this machine; the test is skipped where a part is missing.
func realStack(t *testing.T) bench.Stack {
	t.Helper()
	artifacts := stacktest.Artifacts(t)
	binaries, err := postgres.Find(t.Context(), "", "")
	if err != nil {
		t.Fatalf("%v: install PostgreSQL 15 or newer", err)
	}
	return bench.Stack{
		Program: walpost(t), Version: "test", Postgres: binaries, Artifacts: artifacts, ConnectHeapMiB: 512, Progress: testLog{t},
	}
}

// testLog writes what is told to a person into the test's log.
type testLog struct{ t *testing.T }

func (l testLog) Write(line []byte) (int, error) {
	l.t.Logf("%s", line)
	return len(line), nil
}
