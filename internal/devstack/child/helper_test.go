package child_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/devstack/child"
)

// TestMain runs the tests or, called with the word helper, one of the programs that they start.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "helper" {
		helper(os.Args[2], os.Args[3:])
		return
	}
	goleak.VerifyTestMain(m)
}

func helper(program string, args []string) {
	switch program {
	case "waits":
		fmt.Fprintln(os.Stdout, "up")
		forever()
	case "ignores-term":
		signal.Ignore(syscall.SIGTERM)
		fmt.Fprintln(os.Stdout, "up")
		forever()
	case "fails":
		fmt.Fprintln(os.Stdout, "the disk is full")
		os.Exit(1)
	case "parent":
		cmd := sample("waits", args[0], args[1], args[2])
		cmd.Detach = args[3] == "detached"
		p, err := child.Start(context.Background(), cmd)
		if err == nil {
			err = awaitUp(context.Background(), p)
		}
		if err != nil {
			fmt.Fprintln(os.Stdout, err)
			os.Exit(1)
		}
		fmt.Fprintln(os.Stdout, "up")
		forever()
	}
}

// forever waits for a signal that nobody sends: the runtime would end a process that waits for nothing at all.
func forever() {
	never := make(chan os.Signal, 1)
	signal.Notify(never, syscall.SIGUSR2)
	<-never
}

func sample(program, record, output, addr string) child.Command {
	return child.Command{
		Name: "sample", Path: os.Args[0], Args: []string{"helper", program}, Record: record, Output: output, Addr: addr,
		Stop: []child.Step{{Signal: syscall.SIGTERM, Patience: 10 * time.Second}},
	}
}

func command(t *testing.T, program string) child.Command {
	t.Helper()
	dir := t.TempDir()
	return sample(program, filepath.Join(dir, "record"), filepath.Join(dir, "output"), "127.0.0.1:4711")
}

// start starts the command and returns when the child is up.
func start(t *testing.T, cmd child.Command) *child.Process {
	t.Helper()
	p, err := child.Start(t.Context(), cmd)
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	t.Cleanup(p.Kill)
	if err := awaitUp(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func awaitUp(ctx context.Context, p *child.Process) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return p.Await(ctx, time.Millisecond, func(context.Context) error {
		if p.Log() != "up" {
			return errors.New("it has not said that it is up")
		}
		return nil
	})
}

// within is the deadline of a wait.
func within(t *testing.T, what string) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, fmt.Errorf("waited 20 s for: %s", what))
	t.Cleanup(cancel)
	return ctx
}
