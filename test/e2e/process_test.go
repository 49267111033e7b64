// Package e2e_test runs the built program as its users do, and kills it as their machines do.
package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/freeport"
	"github.com/walpost/walpost/internal/pgtest"
)

// binary is built once for all tests, into a temporary folder.
var binary struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	pgtest.Main(m, func() { _ = os.RemoveAll(binary.dir) })
}

func walpost(t *testing.T) string {
	t.Helper()
	binary.once.Do(func() {
		if binary.dir, binary.err = os.MkdirTemp("", "walpost-e2e-"); binary.err != nil {
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

// process is a running walpost whose output is kept for the report of a failure.
type process struct {
	name   string
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended

	mu     sync.Mutex // protects stdout, stderr
	stdout []string
	stderr []string
	grown  chan struct{} // closed and replaced at each line
}

// start runs walpost with the arguments; a test that fails prints its last lines. What still runs at the end of the test is killed.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	p, err := launch(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// launch is start for goroutines other than the test's own, which may not end the test.
func launch(t *testing.T, args ...string) (*process, error) {
	p := &process{name: strings.Join(args[:1], " "), exited: make(chan struct{}), grown: make(chan struct{})}
	p.cmd = exec.Command(walpost(t), args...)
	p.cmd.Env = environment()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	var readers sync.WaitGroup
	readers.Go(func() { p.keep(bufio.NewScanner(stdout), &p.stdout) })
	readers.Go(func() { p.keep(bufio.NewScanner(stderr), &p.stderr) })
	go func() {
		readers.Wait()
		_ = p.cmd.Wait() // its end is in ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s: last lines on stderr:\n%s", p.name, p.lastLines())
		}
	})
	return p, nil
}

// environment is ours without what would change the program's settings.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, "WALPOST_") || strings.HasPrefix(name, "OTEL_") ||
			slices.Contains([]string{"PORT", "DATABASE_URL", "KAFKA_BROKERS"}, name)
	})
}

func (p *process) keep(lines *bufio.Scanner, into *[]string) {
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		*into = append(*into, lines.Text())
		close(p.grown)
		p.grown = make(chan struct{})
		p.mu.Unlock()
	}
}

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error means that it has ended
	<-p.exited
}

// interrupt sends SIGINT and returns how long the process took to end.
func (p *process) interrupt(t *testing.T, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatalf("%s: interrupt: %v", p.name, err)
	}
	select {
	case <-p.exited:
		return time.Since(begin)
	case <-time.After(limit):
		t.Fatalf("%s: still running %v after Ctrl-C", p.name, limit)
		return 0
	}
}

// line waits for a line on stdout for which match is true.
func (p *process) line(t *testing.T, what string, limit time.Duration, match func(string) bool) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for seen := 0; ; {
		p.mu.Lock()
		lines, grown := p.stdout[seen:], p.grown
		p.mu.Unlock()
		for _, line := range lines {
			if match(line) {
				return line
			}
		}
		seen += len(lines)
		select {
		case <-grown:
		case <-p.exited:
			t.Fatalf("%s ended before %s:\n%s", p.name, what, p.lastLines())
		case <-ctx.Done():
			t.Fatalf("%s: no %s within %v:\n%s", p.name, what, limit, p.lastLines())
		}
	}
}

func (p *process) lastLines() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.stderr[max(0, len(p.stderr)-30):], "\n")
}

// run runs walpost to its end and fails the test unless it succeeds.
func run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), walpost(t), args...) // cleanups run it too
	cmd.Env = environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("walpost %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// address is a free one on loopback. Another process may take it before the one it is meant for; its error would say so.
func address(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// eventually waits until check returns nil, looking every 50 ms, and reports its last error after the limit.
func eventually(t *testing.T, what string, limit time.Duration, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(err, context.DeadlineExceeded) {
				err = ctx.Err()
			}
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
	}
}
