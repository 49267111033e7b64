package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = errors.New("interrupted")

// interruptible cancels the context at the first SIGINT or SIGTERM and calls exit at the second. Call stop when the command has ended.
func interruptible(ctx context.Context, stderr io.Writer, exit func(code int)) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for _, again := range []bool{false, true} {
			select {
			case <-signals:
			case <-done:
				return
			}
			cancel(errInterrupted)
			if again {
				_, _ = fmt.Fprintln(stderr, "walpost: interrupted again: ended at once, the next start recovers what was in flight") // we are going
				exit(exitInterrupted)
			}
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		<-ended
		cancel(nil)
	}
}
