package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	slow         = time.Second     // what takes longer says what it is doing
	partPatience = 2 * time.Second // then the next part is stopped while this one is still ending
)

// Parts runs the parts of one process side by side and stops them one after another, the last started first. Unlike an errgroup it gives each
// part a context of its own: a relay must have ended before the broker that it publishes to. Its methods are safe for concurrent use.
type Parts struct {
	fail context.CancelCauseFunc // of the context that NewParts returned

	mu    sync.Mutex // protects parts
	parts []*part
}

type part struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{} // closed when run has returned
	err    error         // how it ended after it was asked to; read it after done
}

// NewParts returns an empty set of parts, and a context that is done when ctx is or when a part has failed; then its cause is that part's error,
// with the part's name.
func NewParts(ctx context.Context) (*Parts, context.Context) {
	running, fail := context.WithCancelCause(ctx)
	return &Parts{fail: fail}, running
}

// Start runs a part until Stop. run blocks, and returns nil or an error soon after its context is done; a return before that, with or without an
// error, is a failure of the part. The values of ctx are handed on to it, the end of ctx is not.
func (p *Parts) Start(ctx context.Context, name string, run func(context.Context) error) {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	started := &part{name: name, cancel: cancel, done: make(chan struct{})}
	p.mu.Lock()
	p.parts = append(p.parts, started)
	p.mu.Unlock()
	go func() {
		defer close(started.done)
		err := run(own)
		asked := own.Err() != nil
		if err == nil && !asked {
			err = errors.New("ended by itself")
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		if asked {
			started.err = err
		} else {
			p.fail(err) // the first one counts: what fails after it is its consequence
		}
	}()
}

// Stop ends the parts, the last started first, and waits for all of them, at most until ctx is done. A part that takes over a second is named on
// out. Its error joins those of the parts that ended badly when asked to, and names the parts that had not ended.
func (p *Parts) Stop(ctx context.Context, out io.Writer) error {
	defer p.fail(nil)
	p.mu.Lock()
	backward := slices.Clone(p.parts)
	p.mu.Unlock()
	slices.Reverse(backward)
	for _, part := range backward {
		quiet := Slowly(out, "stopping "+part.name)
		part.cancel()
		patience, enough := context.WithTimeout(ctx, partPatience)
		part.wait(patience)
		enough()
		quiet()
	}
	var errs []error
	var left []string
	for _, part := range backward {
		if part.wait(ctx) {
			errs = append(errs, part.err)
		} else {
			left = append(left, part.name)
		}
	}
	if len(left) > 0 {
		errs = append(errs, fmt.Errorf("not stopped in time: %s", strings.Join(left, ", ")))
	}
	return errors.Join(errs...)
}

// wait reports whether the part has ended or does so before ctx is done.
func (p *part) wait(ctx context.Context) bool {
	select {
	case <-p.done:
		return true
	default: // a part that has ended counts as such however late it is asked
	}
	select {
	case <-p.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// Slowly writes the line to out if the returned function is not called within a second. After the call nothing is written any more.
func Slowly(out io.Writer, line string) (done func()) {
	called, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.NewTimer(slow)
		defer timer.Stop()
		select {
		case <-called:
		case <-timer.C:
			_, _ = fmt.Fprintln(out, line+" …") // talk is not worth failing for
		}
	}()
	return func() {
		close(called)
		<-ended
	}
}
