// Package stack runs the real stack on this machine without Docker: PostgreSQL, one Kafka broker, and one Kafka Connect worker with Debezium, all
// detached, so that they outlive the process that started them.
//
// It makes no tables, topics or connectors, and restarts nothing by itself. It is for development, tests and benchmarks: everything listens on loopback,
// nobody is asked who he is, there is one copy of everything. Unlike dev's, its PostgreSQL waits for the disk at each commit.
//
// The invariant: at most one stack runs on a folder; Up, Down and Reset work on it one at a time; and an Up that fails or is interrupted leaves the
// servers as it found them. What even kill -9 left of one is found by the next Up, Down or Read.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/devstack/child"
)

// Up starts the servers that do not run, waits until all of them do their work, and makes the database. Those that run stay as they are; when all do,
// nothing is started, and State.Started is empty.
//
// Its errors: *FolderError, *devstack.LockedError when another process works on the folder, *AddrError when what runs has another address than the one
// asked for, *BusyError with all ports that other programs have, *maven.MissingError without Java, or without Maven when the programs are not cached.
func Up(ctx context.Context, cfg Config) (state State, err error) {
	if err := cfg.Validate(); err != nil {
		return State{}, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return State{}, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	u, err := newUp(cfg)
	if err != nil {
		return State{}, err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel() // ends the watches on what ran before
	if state, err = u.settle(watching); err != nil {
		return State{}, errors.Join(causeOr(ctx, err), u.undo(ctx))
	}
	state.Started = u.started
	return state, nil
}

func lockDir(dir string) (*devstack.Lock, error) {
	lock, err := devstack.LockDir(dir)
	var locked *devstack.LockedError
	if err != nil && !errors.As(err, &locked) {
		return nil, &FolderError{dir, err}
	}
	return lock, err
}

// causeOr prefers the reason for which ctx ended to the error that followed from it.
func causeOr(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Down stops Kafka Connect, then Kafka, then PostgreSQL, and tells progress line by line. What does not stop in time when it is asked is killed, which
// costs recovery at the next start and loses nothing. When nothing runs it does nothing, and State.Stopped is empty. When ctx ends, the server that is
// stopping is not waited for any longer, and the others stay. It returns a *devstack.LockedError when another process works on the folder.
func Down(ctx context.Context, dir string, progress io.Writer) (_ State, err error) {
	if n, err := readNotes(dir); err != nil {
		return State{}, err
	} else if n == nil {
		return Read(ctx, dir) // nothing: no folder is made only to lock it
	}
	lock, err := lockDir(dir)
	if err != nil {
		return State{}, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	stopped, err := stop(ctx, dir, backward(names), progress)
	if err != nil {
		return State{}, err
	}
	state, err := Read(ctx, dir)
	state.Stopped = stopped
	return state, err
}

// stop stops the named servers that run, one after the other, and returns their names. A server that cannot be found out about does not keep the others
// from being stopped.
func stop(ctx context.Context, dir string, names []string, progress io.Writer) (stopped []string, err error) {
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			return stopped, errors.Join(append(errs, context.Cause(ctx))...)
		}
		p, err := attach(context.WithoutCancel(ctx), dir, name)
		if errors.Is(err, child.ErrNotRunning) {
			continue
		}
		if err == nil {
			fmt.Fprintf(progress, "stopping %s\n", name)
			err = p.Stop(ctx)
		}
		if err != nil {
			fmt.Fprintf(progress, "%s: %v\n", name, err)
		}
		if _, still := attach(context.WithoutCancel(ctx), dir, name); !errors.Is(still, child.ErrNotRunning) {
			errs = append(errs, fmt.Errorf("stop %s: %w", name, errors.Join(err, still)))
			continue
		}
		stopped = append(stopped, name)
	}
	return stopped, errors.Join(errs...)
}

func backward(names []string) []string {
	names = slices.Clone(names)
	slices.Reverse(names)
	return names
}

// Reset deletes the data and the logs of the stack on the folder: what Contents lists. It keeps PostgreSQL's programs, where they were fetched, and
// whatever else lies there. It returns a *RunningError when a server runs, and a *devstack.LockedError when another process works on the folder.
func Reset(ctx context.Context, dir string) (err error) {
	if n, err := readNotes(dir); err != nil || n == nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	state, err := Read(ctx, dir)
	if err != nil {
		return err
	}
	// A server that cannot be found out about may run.
	at := slices.IndexFunc(state.Servers, func(s Server) bool { return !s.Running && s.Problem != "" && !state.Running() })
	if at >= 0 {
		return fmt.Errorf("%s: %s", state.Servers[at].Name, state.Servers[at].Problem)
	}
	if state.Running() {
		return &RunningError{slices.DeleteFunc(state.Servers, func(s Server) bool { return !s.Running })}
	}
	var errs []error
	for _, path := range own(dir) {
		errs = append(errs, os.RemoveAll(path))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.Remove(notesFile(dir)) // the last, so that a Reset that failed can be repeated
}

// foreign refuses a folder in which something lies where the stack would put its data and that no stack has put there: Reset would delete it.
func foreign(dir string) error {
	if there := existing(own(dir)); len(there) > 0 {
		return &FolderError{dir, fmt.Errorf("no stack has put there what it holds, %s, and reset would delete it", strings.Join(baseNames(there), ", "))}
	}
	return nil
}

func baseNames(paths []string) []string {
	var names []string
	for _, path := range paths {
		names = append(names, filepath.Base(path))
	}
	return names
}
