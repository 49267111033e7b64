package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/chaos"
)

// TestAnInterruptedCampaignLeavesNoProcess interrupts a campaign in its second run, when servers have come and gone.
func TestAnInterruptedCampaignLeavesNoProcess(t *testing.T) {
	w := world(t)
	if !*every {
		return // not skipped: make test leaves it to make chaos, and CI takes a skip for a failure
	}
	stack := w.Stack()
	dir, err := os.MkdirTemp("", "walpost-chaos-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // PostgreSQL's account has to enter it
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // best effort in the system's temporary folder
	interrupted := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stack.Dir, stack.Progress = dir, after("run 1 of", func() { time.AfterFunc(3*time.Second, func() { cancel(interrupted) }) })
	report, err := chaos.Campaign(ctx, chaos.Config{
		Stack: stack, Seed: *seed, Runs: 3, Duration: 4 * time.Second, Faults: []chaos.Kind{chaos.RelayZombie, chaos.ServerKill, chaos.RelayHandover},
	})
	if !errors.Is(err, interrupted) || len(report.Runs) != 1 {
		t.Errorf("Campaign(interrupted) = %d runs, %v, want 1 and %v", len(report.Runs), err, interrupted)
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Skip("processes are looked for in /proc")
	}
	for _, file := range files {
		line, err := os.ReadFile(file) // a process may end meanwhile
		if err == nil && bytes.Contains(line, []byte(dir)) {
			t.Errorf("process is left: %.80q", bytes.ReplaceAll(line, []byte{0}, []byte(" ")))
		}
	}
}

// after calls f when a line that begins so is told.
func after(begin string, f func()) io.Writer { return &trigger{[]byte(begin), f} }

type trigger struct {
	begin []byte
	f     func()
}

func (g *trigger) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, g.begin) {
		g.f()
	}
	return len(line), nil
}
