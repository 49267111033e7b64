package child_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/devstack/child"
)

func TestAChildRunsUntilItIsAskedToStop(t *testing.T) {
	t.Parallel()
	cmd := command(t, "waits")
	p := start(t, cmd)
	if group, err := syscall.Getpgid(p.PID()); err != nil || group != p.PID() {
		t.Errorf("process group of the child = %d, %v, want its own, %d", group, err, p.PID())
	}
	if p.Addr() != cmd.Addr || p.Detached() {
		t.Errorf("Addr(), Detached() = %q, %t, want %q, false", p.Addr(), p.Detached(), cmd.Addr)
	}
	if got := p.Log(); got != "up" {
		t.Errorf("Log() = %q, want what the child printed", got)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	select {
	case <-p.Exited():
	default:
		t.Error("Exited() is open after Stop")
	}
	if err := p.Wait(t.Context()); err != nil {
		t.Errorf("Wait() after Stop = %v", err)
	}
	if _, err := child.Attach(t.Context(), cmd.Record); !errors.Is(err, child.ErrNotRunning) {
		t.Errorf("Attach() after Stop = %v, want ErrNotRunning", err)
	}
}

func TestStopAsksInTheGivenWaysBeforeItKills(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name  string
		ctx   context.Context
		steps []child.Step
		want  string // of the error
	}{
		{"a child that ignores the first signal stops on the second", t.Context(), []child.Step{{syscall.SIGTERM, 50 * time.Millisecond}, {syscall.SIGINT, time.Minute}}, ""},
		{"a context that has ended is lost patience with the first signal only", ended, []child.Step{{syscall.SIGTERM, time.Minute}, {syscall.SIGINT, time.Minute}}, ""},
		{"a child that ignores every signal is killed, which is an error", t.Context(), []child.Step{{syscall.SIGTERM, 50 * time.Millisecond}}, "did not stop when asked and was killed"},
		{"a child that cannot be asked is killed, which is none", t.Context(), nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := command(t, "ignores-term")
			cmd.Stop = tt.steps
			p := start(t, cmd)
			err := p.Stop(tt.ctx)
			if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Stop() = %v, want %q", err, tt.want)
			}
			if err := syscall.Kill(p.PID(), 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("signal 0 after Stop = %v, want no such process", err)
			}
		})
	}
}

func TestAwaitTellsWhyAChildIsNotReady(t *testing.T) {
	t.Parallel()
	notReady := func(context.Context) error { return errors.New("port 1 refuses") }
	t.Run("the last lines of a child that ended are in the error", func(t *testing.T) {
		t.Parallel()
		p, err := child.Start(t.Context(), command(t, "fails"))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Await(t.Context(), time.Hour, notReady); err == nil || !strings.Contains(err.Error(), "sample ended while starting: the disk is full") {
			t.Errorf("Await() = %v, want the end and the child's words", err)
		}
	})
	t.Run("an answer does not count when the child has ended", func(t *testing.T) {
		t.Parallel()
		p, err := child.Start(t.Context(), command(t, "fails"))
		if err != nil {
			t.Fatal(err)
		}
		foreign := func(ctx context.Context) error { return p.Wait(ctx) }
		if err := p.Await(t.Context(), time.Hour, foreign); err == nil {
			t.Error("Await() = nil, want the end of the child")
		}
	})
	t.Run("what was missing is in the error when time is up", func(t *testing.T) {
		t.Parallel()
		p := start(t, command(t, "waits"))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := p.Await(ctx, time.Millisecond, notReady)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "port 1 refuses: up") {
			t.Errorf("Await() = %v, want the deadline, the reason and the log", err)
		}
	})
	t.Run("it returns when the child is ready", func(t *testing.T) {
		t.Parallel()
		p := start(t, command(t, "waits"))
		calls := 0
		ready := func(ctx context.Context) error {
			if calls++; calls < 3 {
				return notReady(ctx)
			}
			return nil
		}
		if err := p.Await(t.Context(), time.Millisecond, ready); err != nil || calls != 3 {
			t.Errorf("Await() = %v after %d calls, want nil after 3", err, calls)
		}
	})
}

func TestAChildLeftBehindIsStoppedByTheNextStart(t *testing.T) {
	t.Parallel()
	cmd := command(t, "waits")
	left := start(t, cmd)
	next := start(t, cmd)
	if err := left.Wait(within(t, "end of the child left behind")); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(next.PID(), 0); err != nil {
		t.Errorf("signal 0 to the new child = %v", err)
	}
}

func TestStartNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	t.Run("a program that is not there", func(t *testing.T) {
		t.Parallel()
		cmd := command(t, "waits")
		cmd.Path = "/no/such/program"
		if _, err := child.Start(t.Context(), cmd); err == nil || !strings.Contains(err.Error(), "start sample: ") {
			t.Errorf("Start() = %v, want the program's name", err)
		}
	})
	t.Run("a record in a folder that is not there, and the child is not left running", func(t *testing.T) {
		t.Parallel()
		cmd := command(t, "waits")
		cmd.Record = filepath.Join(t.TempDir(), "missing", "record")
		if _, err := child.Start(t.Context(), cmd); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Start() = %v, want the missing folder", err)
		}
	})
	for name, text := range map[string]string{
		"a record that is no record":     "{",
		"a record that names all groups": `{"pid":-1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command(t, "waits")
			if err := os.WriteFile(cmd.Record, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := child.Start(t.Context(), cmd); err == nil || !strings.Contains(err.Error(), "remove the file") {
				t.Errorf("Start() = %v, want what to do", err)
			}
		})
	}
}
