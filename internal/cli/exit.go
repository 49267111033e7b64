package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/relay"
)

// The exit codes that scripts rely on. 10 to 21 are the relay's halts, one a cause.
const (
	exitDone        = 0
	exitFailed      = 1
	exitMisused     = 2
	exitUnhealthy   = 3
	exitNotFound    = 4
	exitConflict    = 5
	exitInterrupted = 130
)

// exits is the table of exit codes, in the order in which an error is held against it.
var exits = []struct {
	code    int
	meaning string
	applies func(error) bool // nil: for the documentation only
}{
	{exitDone, "done; a server: drained after SIGINT or SIGTERM", nil},
	{exitMisused, "misused: unknown command or flag, a value that cannot be, settings that contradict", is[*config.Error]},
	{exitMisused, "", is[*ops.PublicAddrError]},
	{exitUnhealthy, "unhealthy: healthcheck found a dependency that does not work", nil},
	{exitNotFound, "not found: what the command was to act on is not there", nil},
	{exitConflict, "conflict: something is in the way, such as a busy port or a slot in use", is[*ops.BusyPortError]},
	{exitFailed, "failed, for the reason on stderr", nil},
	{exitInterrupted, "interrupted before the work was done", func(err error) bool { return errors.Is(err, errInterrupted) }},
}

func is[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// exitError is an error whose command knows its exit code.
type exitError struct {
	code int
	err  error
}

// Error is the error's own text: the code is said by the process.
func (e *exitError) Error() string { return e.err.Error() }

// Unwrap returns the error itself.
func (e *exitError) Unwrap() error { return e.err }

func misuse(err error) error { return &exitError{exitMisused, err} }

func misused(format string, args ...any) error { return misuse(fmt.Errorf(format, args...)) }

func unhealthy(format string, args ...any) error {
	return &exitError{exitUnhealthy, fmt.Errorf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &exitError{exitNotFound, fmt.Errorf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &exitError{exitConflict, fmt.Errorf(format, args...)}
}

// exitCode finds the code of an error that ended a command. What fails because of a signal was interrupted, whatever it says itself.
func exitCode(ctx context.Context, err error) int {
	var own *exitError
	if errors.As(err, &own) {
		return own.code
	}
	var halt *relay.HaltError
	if errors.As(err, &halt) {
		return halt.Cause.ExitCode()
	}
	for _, exit := range exits {
		if exit.applies != nil && exit.applies(err) {
			return exit.code
		}
	}
	if errors.Is(context.Cause(ctx), errInterrupted) {
		return exitInterrupted
	}
	return exitFailed
}
