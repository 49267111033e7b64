package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/pgtest"

	"github.com/walpost/walpost/relay"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// script is a Source, a Stream, a Sink and a Publisher made of functions; one that is not set succeeds. Streams without next wait for ctx.
type script struct {
	open      func(attempt int) error
	origin    relay.Origin
	next      func(call int) (relay.Batch, error)
	watermark relay.Watermark
	publish   func(ctx context.Context, events []relay.Event) error

	opened, nexts int
	published     []relay.Position
	confirmed     []relay.LSN
	closed        []string
}

func (s *script) Open(ctx context.Context) (relay.Stream, error) {
	s.opened++
	if s.open != nil {
		if err := s.open(s.opened); err != nil {
			return nil, err
		}
	}
	return scriptStream{s}, nil
}

type scriptStream struct{ *script }

func (s scriptStream) Origin() relay.Origin { return s.origin }

func (s scriptStream) Next(ctx context.Context) (relay.Batch, error) {
	s.nexts++
	if s.next != nil {
		if b, err := s.next(s.nexts); err != nil || b.End != 0 || b.Events != nil {
			return b, err
		}
	}
	<-ctx.Done()
	return relay.Batch{}, ctx.Err()
}

func (s scriptStream) Confirm(end relay.LSN) { s.confirmed = append(s.confirmed, end) }
func (s scriptStream) Close() error {
	s.closed = append(s.closed, "stream")
	return errors.New("close fails")
}

type scriptSink struct{ *script }

func (s scriptSink) Open(context.Context, relay.Origin) (relay.Publisher, relay.Watermark, error) {
	return scriptPublisher(s), s.watermark, nil
}

type scriptPublisher struct{ *script }

func (s scriptPublisher) Publish(ctx context.Context, events []relay.Event, w relay.Watermark) error {
	if s.publish != nil {
		if err := s.publish(ctx, events); err != nil {
			return err
		}
	}
	s.published = append(s.published, positions(events)...)
	return nil
}

func (s scriptPublisher) Close() error { s.closed = append(s.closed, "publisher"); return nil }

func newRelay(t *testing.T, s *script, cfg relay.Config) *relay.Relay {
	t.Helper()
	r, err := relay.New(s, scriptSink{s}, cfg)
	if err != nil {
		t.Fatalf("New = %v, want no error", err)
	}
	return r
}

// batches hands out the given batches, then nothing more.
func batches(given ...relay.Batch) func(int) (relay.Batch, error) {
	return func(call int) (relay.Batch, error) {
		if call > len(given) {
			return relay.Batch{}, nil
		}
		return given[call-1], nil
	}
}

// recorder is an Observer with every ability.
type recorder struct {
	states    []string
	published int
	skipped   int
	confirmed []relay.LSN
}

func (r *recorder) StateChanged(s relay.State, _ error)             { r.states = append(r.states, s.String()) }
func (r *recorder) Published(events []relay.Event, _ time.Duration) { r.published += len(events) }
func (r *recorder) Skipped(n int)                                   { r.skipped += n }
func (r *recorder) Confirmed(end relay.LSN)                         { r.confirmed = append(r.confirmed, end) }

func TestRule8FailuresAreRetriedWithGrowingPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Duration
		began := time.Now()
		s := &script{open: func(attempt int) error {
			at = append(at, time.Since(began))
			if attempt == 10 {
				cancel()
			}
			return errInjected
		}}
		seen := &recorder{}
		cfg := relay.Config{BackoffMin: 100 * time.Millisecond, BackoffMax: 2 * time.Second, Observer: seen}
		if err := newRelay(t, s, cfg).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		shortened := false
		for i := 1; i < len(at); i++ {
			most := min(100*time.Millisecond<<(i-1), 2*time.Second)
			pause := at[i] - at[i-1]
			if pause < most/2 || pause > most {
				t.Errorf("pause %d = %v, want between %v and %v", i, pause, most/2, most)
			}
			shortened = shortened || pause < most
		}
		if !shortened {
			t.Error("no pause was shortened at random: relays that fail together come back together")
		}
		want := append([]string{"starting"}, append(slicesRepeat("retrying", 9), "stopped")...)
		if diff := cmp.Diff(want, seen.states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

func slicesRepeat(s string, n int) []string { return strings.Fields(strings.Repeat(s+" ", n)) }

func TestSuccessStartsTheCountOfFailuresAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var last time.Time
		var pause time.Duration
		s := &script{
			open: func(attempt int) error {
				pause, last = time.Since(last), time.Now()
				switch {
				case attempt == 10:
					cancel()
				case attempt < 8:
					return errInjected
				}
				return nil
			},
			next: func(call int) (relay.Batch, error) {
				if call == 1 {
					return relay.Batch{Events: []relay.Event{event(10, 0)}, End: 12}, nil
				}
				return relay.Batch{}, errInjected
			},
		}
		cfg := relay.Config{BackoffMin: 100 * time.Millisecond, BackoffMax: time.Hour}
		if err := newRelay(t, s, cfg).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if pause > 200*time.Millisecond {
			t.Errorf("second pause after a success = %v, want at most 200 ms", pause)
		}
	})
}

func TestARefusedPasswordIsNotTriedInAHurry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		s := &script{open: func(attempt int) error {
			if attempt == 2 {
				cancel()
			}
			return fmt.Errorf("connect: %w", &relay.SlowRetry{Err: errInjected, After: time.Minute})
		}}
		if err := newRelay(t, s, relay.Config{}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if got := time.Since(began); got < time.Minute {
			t.Errorf("second attempt came after %v, want a minute", got)
		}
	})
}

func TestThePauseDoesNotGrowWhileEachAttemptLearnsFromTheLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		s := &script{open: func(attempt int) error {
			if attempt == 20 {
				cancel()
			}
			return fmt.Errorf("publish: %w", &relay.Learned{Err: errInjected})
		}}
		if err := newRelay(t, s, relay.Config{BackoffMin: 100 * time.Millisecond}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if got := time.Since(began); got > 2*time.Second {
			t.Errorf("20 attempts took %v, want at most 100 ms each", got)
		}
	})
}

func TestAStandbyWaitsForTheSlotAndTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		s := &script{open: func(attempt int) error {
			if attempt <= 60 {
				return fmt.Errorf("start: %w", relay.ErrStandby)
			}
			return nil
		}}
		seen := &recorder{}
		began := time.Now()
		s.next = func(int) (relay.Batch, error) {
			if waited := time.Since(began); waited < 30*time.Second || waited > time.Minute {
				t.Errorf("standby took over after %v, want half a minute to a minute for 60 attempts", waited)
			}
			cancel()
			return relay.Batch{}, nil
		}
		if err := newRelay(t, s, relay.Config{Observer: seen}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if diff := cmp.Diff([]string{"starting", "standby", "streaming", "stopped"}, seen.states); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
}

func TestStoppingFinishesTheBatchInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &script{
			next: batches(relay.Batch{Events: []relay.Event{event(10, 0)}, End: 12}, relay.Batch{Events: []relay.Event{event(20, 0)}, End: 22}),
			publish: func(ctx context.Context, _ []relay.Event) error {
				cancel()
				select {
				case <-time.After(9 * time.Second):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			},
		}
		if err := newRelay(t, s, relay.Config{}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if diff := cmp.Diff([]relay.LSN{12}, s.confirmed); diff != "" {
			t.Errorf("confirmed (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"publisher", "stream"}, s.closed); diff != "" {
			t.Errorf("closed (-want +got):\n%s", diff)
		}
	})
}

func TestStoppingGivesUpABatchThatDoesNotFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := &script{
			next: batches(relay.Batch{Events: []relay.Event{event(10, 0)}, End: 12}),
			publish: func(ctx context.Context, _ []relay.Event) error {
				cancel()
				<-ctx.Done()
				return ctx.Err()
			},
		}
		began := time.Now()
		var logged bytes.Buffer
		cfg := relay.Config{Drain: 3 * time.Second, Logger: slog.New(slog.NewTextHandler(&logged, nil))}
		if err := newRelay(t, s, cfg).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("Run ended %v after its context, want 3 s", took)
		}
		if len(s.confirmed) != 0 {
			t.Errorf("confirmed %v, want nothing", s.confirmed)
		}
		if !strings.Contains(logged.String(), "publishes it again") {
			t.Errorf("log = %s, want a warning that the batch is published again", &logged)
		}
	})
}

func TestOnlyCompleteTransactionsAreConfirmed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		seen := &recorder{}
		s := &script{next: batches(
			relay.Batch{Events: []relay.Event{event(10, 0), event(10, 1)}},
			relay.Batch{Events: []relay.Event{event(10, 2)}, End: 12},
			relay.Batch{End: 30},
		)}
		if err := newRelay(t, s, relay.Config{Observer: seen}).Run(ctx); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		if diff := cmp.Diff([]relay.LSN{12, 30}, s.confirmed); diff != "" {
			t.Errorf("confirmed (-want +got):\n%s", diff)
		}
		if seen.published != 3 || len(seen.confirmed) != 2 {
			t.Errorf("observer saw %d events and %d positions, want 3 and 2", seen.published, len(seen.confirmed))
		}
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	s := &script{}
	if _, err := relay.New(nil, scriptSink{s}, relay.Config{}); err == nil {
		t.Error("New without source = nil, want an error")
	}
	if _, err := relay.New(s, nil, relay.Config{}); err == nil {
		t.Error("New without sink = nil, want an error")
	}
	for name, cfg := range map[string]relay.Config{
		"a negative drain":              {Drain: -1},
		"a negative pause":              {BackoffMin: -1},
		"a negative wait":               {StallAfter: -1},
		"a longest pause below another": {BackoffMin: time.Minute, BackoffMax: time.Second},
	} {
		if _, err := relay.New(s, scriptSink{s}, cfg); err == nil {
			t.Errorf("New with %s = nil, want an error", name)
		}
	}
}
