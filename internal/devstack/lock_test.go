package devstack_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walpost/walpost/internal/devstack"
)

func TestALockedDirectoryNamesItsHolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	lock, err := devstack.LockDir(dir)
	if err != nil {
		t.Fatalf("LockDir(new) = %v", err)
	}
	if err := lock.Describe("http://127.0.0.1:8090"); err != nil {
		t.Fatal(err)
	}
	_, err = devstack.LockDir(dir)
	var locked *devstack.LockedError
	if !errors.As(err, &locked) {
		t.Fatalf("LockDir(held) = %v, want a *LockedError", err)
	}
	want := devstack.Owner{PID: os.Getpid(), URL: "http://127.0.0.1:8090"}
	if locked.Owner != want || locked.Dir != dir {
		t.Errorf("LockDir(held) names %+v of %s, want %+v of %s", locked.Owner, locked.Dir, want, dir)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	again, err := devstack.LockDir(dir)
	if err != nil {
		t.Fatalf("LockDir(released) = %v", err)
	}
	if got := again.Abandoned(); got != nil {
		t.Errorf("Abandoned() after Release = %+v, want nil", got)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
}

// TestHolder holds the directory that the environment names until it is killed; TestAKilledHolder runs it as a process of its own.
func TestHolder(t *testing.T) {
	dir := os.Getenv("WALPOST_TEST_HOLD")
	if dir == "" {
		return // the process of TestAKilledHolderLeavesItsNameAndNoLock
	}
	if _, err := devstack.LockDir(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.WriteString("held\n"); err != nil {
		t.Fatal(err)
	}
	select {}
}

func TestAKilledHolderLeavesItsNameAndNoLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	holder := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHolder$")
	holder.Env = append(os.Environ(), "WALPOST_TEST_HOLD="+dir)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 5)
	if _, err := out.Read(said); err != nil || !strings.HasPrefix(string(said), "held") {
		t.Fatalf("holder said %q, %v", said, err)
	}
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // killed
	lock, err := devstack.LockDir(dir)
	if err != nil {
		t.Fatalf("LockDir after the holder was killed = %v", err)
	}
	defer func() {
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	}()
	if got := lock.Abandoned(); got == nil || got.PID != holder.Process.Pid {
		t.Errorf("Abandoned() = %+v, want process %d", got, holder.Process.Pid)
	}
}
