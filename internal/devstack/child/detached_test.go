package child_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/devstack/child"
)

func TestAChildDiesWithItsParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child of its parent's death; elsewhere the next Start stops it")
	}
	cmd := command(t, "waits")
	parent := startParent(t, cmd, "attached")
	p := attach(t, cmd.Record)
	if p.Detached() {
		t.Error("Detached() = true, want false")
	}
	kill(t, parent)
	if err := p.Wait(within(t, "end of the child")); err != nil {
		t.Error(err)
	}
}

func TestADetachedChildOutlivesItsParentAndIsFoundAgain(t *testing.T) {
	t.Parallel()
	cmd := command(t, "waits")
	kill(t, startParent(t, cmd, "detached"))
	p := attach(t, cmd.Record)
	if !p.Detached() || p.Addr() != cmd.Addr || p.Log() != "up" {
		t.Errorf("Detached(), Addr(), Log() = %t, %q, %q, want true, %q, up", p.Detached(), p.Addr(), p.Log(), cmd.Addr)
	}
	if session, _, err := syscall.Syscall(syscall.SYS_GETSID, uintptr(p.PID()), 0, 0); int(session) != p.PID() {
		t.Errorf("session of process %d = %d, %v, want its own, which no closed terminal ends", p.PID(), session, err)
	}
	var running *child.RunningError
	if _, err := child.Start(t.Context(), cmd); !errors.As(err, &running) || running.PID != p.PID() {
		t.Errorf("Start() on its record = %v, want a RunningError with process %d", err, p.PID())
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	select {
	case <-p.Exited():
	case <-within(t, "Exited of the attached process").Done():
		t.Error("Exited() is open after Stop")
	}
	if _, err := child.Attach(t.Context(), cmd.Record); !errors.Is(err, child.ErrNotRunning) {
		t.Errorf("Attach() after Stop = %v, want ErrNotRunning", err)
	}
}

func TestADetachedChildHoldsNothingOfWhoeverStartedItsParent(t *testing.T) {
	t.Parallel()
	cmd := command(t, "waits")
	ours, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	kill(t, startParent(t, cmd, "detached", theirs))
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	attach(t, cmd.Record)
	if err := ours.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("Read() of a pipe that the parent was given = %v, want its end: the child holds it open", err)
	}
}

func TestTheOutputOfTheRunBeforeIsKept(t *testing.T) {
	t.Parallel()
	cmd := command(t, "fails")
	cmd.Detach = true
	for range 2 {
		p, err := child.Start(t.Context(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(within(t, "end of the child")); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{cmd.Output, cmd.Output + ".1"} {
		if text, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(text)) != "the disk is full" {
			t.Errorf("%s = %q, %v, want one run's output", file, text, err)
		}
	}
}

func TestARecordOfAnotherTimeNamesNothing(t *testing.T) {
	t.Parallel()
	cmd := command(t, "waits")
	bystander := start(t, cmd)
	text, err := os.ReadFile(cmd.Record)
	if err != nil {
		t.Fatal(err)
	}
	aged := strings.Replace(string(text), `"began":"`, `"began":"1`, 1)
	if err := os.WriteFile(cmd.Record, []byte(aged), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := child.Attach(t.Context(), cmd.Record); !errors.Is(err, child.ErrNotRunning) {
		t.Errorf("Attach() = %v, want ErrNotRunning", err)
	}
	start(t, cmd)
	if err := syscall.Kill(bystander.PID(), 0); err != nil {
		t.Errorf("signal 0 to the process that has got the number = %v, want it untouched", err)
	}
}

func TestAProcessThatNobodyAskedForAfterItsEndHasEnded(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "helper", "waits")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	began, err := child.Beginning(cmd.Process.Pid)
	if err != nil || began == "" {
		t.Fatalf("Beginning() of a running process = %q, %v", began, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	deadline := within(t, "end of the process")
	for tick := time.NewTicker(time.Millisecond); ; {
		if _, err := child.Beginning(cmd.Process.Pid); errors.Is(err, os.ErrProcessDone) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatal("Beginning() of a process that has ended does not say so")
		}
	}
}

// startParent starts a process that starts the command's child and returns when the child is up.
func startParent(t *testing.T, cmd child.Command, how string, files ...*os.File) *exec.Cmd {
	t.Helper()
	parent := exec.Command(os.Args[0], "helper", "parent", cmd.Record, cmd.Output, cmd.Addr, how)
	parent.ExtraFiles = files
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = parent.Process.Kill() })
	var up string
	if _, err := fmt.Fscan(out, &up); err != nil || up != "up" {
		t.Fatalf("the parent said %q, %v, want up", up, err)
	}
	return parent
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}

func attach(t *testing.T, record string) *child.Process {
	t.Helper()
	p, err := child.Attach(t.Context(), record)
	if err != nil {
		t.Fatalf("Attach() = %v", err)
	}
	t.Cleanup(p.Kill)
	return p
}
