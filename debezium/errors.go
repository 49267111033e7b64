package debezium

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// What errors.Is finds in the errors of a Client.
var (
	ErrNotFound    = errors.New("connector not found")                      // Kafka Connect knows no connector of that name
	ErrConflict    = errors.New("workers of Kafka Connect are rebalancing") // it still was when the client gave up
	ErrUnreachable = errors.New("no answer from Kafka Connect")             // nobody answers at its address, or not in time
	ErrRefused     = errors.New("configuration refused by Kafka Connect")
	ErrOutdated    = errors.New("workers of Kafka Connect are older than 3.7") // one that is asked suffices, or the one that leads them
)

// ResponseError is an answer of Kafka Connect that is no success. It matches ErrNotFound with status 404, and ErrConflict when the workers rebalance.
type ResponseError struct {
	Method, Path string
	Status       int    // of HTTP
	Message      string // as Kafka Connect gives it; of an answer that is not its own, the beginning

	foreign bool // not in Kafka Connect's own form
}

func (e *ResponseError) Error() string {
	return fmt.Sprintf("%s %s: %d %s: %s", e.Method, e.Path, e.Status, http.StatusText(e.Status), e.Message)
}

// Is makes errors.Is see the sentinel of the status.
func (e *ResponseError) Is(target error) bool {
	return e.Status == http.StatusNotFound && target == ErrNotFound || e.rebalancing() && target == ErrConflict
}

// rebalancing knows both of Kafka Connect's ways to say so: 409 to what changes something, and to what reads an uncaught exception. 409 is also its answer
// to a second connector of a name, which no patience helps.
func (e *ResponseError) rebalancing() bool {
	return e.Status == http.StatusConflict && !strings.HasSuffix(e.Message, "already exists") || e.Status == http.StatusInternalServerError && strings.Contains(e.Message, "a rebalance is expected")
}

// RefusedError lists the settings that Kafka Connect refuses. It matches ErrRefused.
type RefusedError struct{ Problems []Problem }

func (e *RefusedError) Error() string {
	lines := []string{ErrRefused.Error() + ":"}
	for _, p := range e.Problems {
		lines = append(lines, "  "+strings.ReplaceAll(p.String(), "\n", "\n    "))
	}
	return strings.Join(lines, "\n")
}

func (e *RefusedError) Unwrap() error { return ErrRefused }

// NotRunningError says that a connector did not come to run: a part of it failed, or it was still on its way when the time was up, in which
// case the error matches context.DeadlineExceeded.
type NotRunningError struct {
	Status  Status // as it was last
	Waited  time.Duration
	TimedUp bool
}

func (e *NotRunningError) Error() string {
	if e.TimedUp {
		return fmt.Sprintf("connector %s does not run after %v:\n%s", e.Status.Name, e.Waited.Round(time.Second), e.Status)
	}
	return fmt.Sprintf("connector %s does not run:\n%s", e.Status.Name, e.Status)
}

func (e *NotRunningError) Unwrap() error {
	if e.TimedUp {
		return context.DeadlineExceeded
	}
	return nil
}
