package devstack_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/devstack"
)

// recorder notes what happened, in order.
type recorder struct {
	mu    sync.Mutex // protects notes
	notes []string
}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, text)
}

func TestPartsStopBackwardsEachAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		parts, _ := devstack.NewParts(t.Context())
		var rec recorder
		for _, name := range []string{"database", "relay", "API"} {
			parts.Start(t.Context(), name, func(ctx context.Context) error {
				<-ctx.Done()
				rec.note("stop " + name)
				<-time.After(500 * time.Millisecond)
				rec.note(name + " ended")
				return nil
			})
		}
		if err := parts.Stop(t.Context(), io.Discard); err != nil {
			t.Fatalf("Stop() = %v", err)
		}
		want := []string{"stop API", "API ended", "stop relay", "relay ended", "stop database", "database ended"}
		if diff := cmp.Diff(want, rec.notes); diff != "" {
			t.Errorf("order of stopping (-want +got):\n%s", diff)
		}
	})
}

func TestTheFirstFailedPartIsNamed(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk full")
	for name, tt := range map[string]struct {
		run  func(context.Context) error
		want string
	}{
		"an error":                 {func(context.Context) error { return broken }, "broker: disk full"},
		"an end without an error":  {func(context.Context) error { return nil }, "broker: ended by itself"},
		"an error in another part": {func(ctx context.Context) error { <-ctx.Done(); return nil }, "relay: broken too"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				parts, running := devstack.NewParts(t.Context())
				parts.Start(t.Context(), "broker", tt.run)
				synctest.Wait()
				parts.Start(t.Context(), "relay", func(context.Context) error { return errors.New("broken too") })
				synctest.Wait()
				if got := context.Cause(running); got == nil || got.Error() != tt.want {
					t.Errorf("cause = %v, want %v", got, tt.want)
				}
				err := parts.Stop(t.Context(), io.Discard)
				if err != nil && strings.Contains(err.Error(), tt.want) {
					t.Errorf("Stop() repeats the failure: %v", err)
				}
			})
		})
	}
}

func TestASlowPartIsNamedAndDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		parts, _ := devstack.NewParts(t.Context())
		var out bytes.Buffer
		var rec recorder
		began := time.Now()
		parts.Start(t.Context(), "database", func(ctx context.Context) error {
			<-ctx.Done()
			rec.note("database stopped after " + time.Since(began).String())
			return nil
		})
		parts.Start(t.Context(), "consumer", func(ctx context.Context) error {
			<-ctx.Done()
			<-time.After(3 * time.Second)
			return nil
		})
		if err := parts.Stop(t.Context(), &out); err != nil {
			t.Fatalf("Stop() = %v", err)
		}
		if got, want := time.Since(began), 3*time.Second; got != want {
			t.Errorf("Stop() took %v, want %v: it waits for the slow part", got, want)
		}
		if got, want := out.String(), "stopping consumer …\n"; got != want {
			t.Errorf("Stop() wrote %q, want %q", got, want)
		}
		if diff := cmp.Diff([]string{"database stopped after 2s"}, rec.notes); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestAPartThatHangsIsNamedWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		parts, _ := devstack.NewParts(t.Context())
		release := make(chan struct{})
		parts.Start(t.Context(), "relay", func(context.Context) error { <-release; return nil })
		parts.Start(t.Context(), "API", func(ctx context.Context) error { <-ctx.Done(); return errors.New("cut off") })
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		err := parts.Stop(ctx, io.Discard)
		if want := "API: cut off\nnot stopped in time: relay"; err == nil || err.Error() != want {
			t.Errorf("Stop() = %v, want %q", err, want)
		}
		close(release)
	})
}

func TestStoppingNothingIsNoError(t *testing.T) {
	t.Parallel()
	parts, _ := devstack.NewParts(t.Context())
	if err := parts.Stop(t.Context(), io.Discard); err != nil {
		t.Errorf("Stop() of no parts = %v", err)
	}
}
