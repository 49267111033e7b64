package ops_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/ops"
)

func TestAReportNamesEachDependencyThatFails(t *testing.T) {
	t.Parallel()
	h := ops.NewHealth()
	if got := h.Report(t.Context()); got.Status != ops.StatusOK {
		t.Errorf("Report() of a process without dependencies = %+v, want ok", got)
	}
	h.Register("database", func(context.Context) error { return nil })
	h.Register("slot", func(context.Context) error { return ops.Warning(errors.New("wal_status is unreserved")) })
	h.SetState("relay", "standby")
	want := ops.Report{
		Status: ops.StatusOK,
		Checks: []ops.Check{{Name: "database", Status: ops.StatusOK}, {Name: "slot", Status: ops.StatusWarn, Error: "wal_status is unreserved"}},
		States: map[string]string{"relay": "standby"},
	}
	if diff := cmp.Diff(want, h.Report(t.Context())); diff != "" {
		t.Errorf("Report() (-want +got):\n%s", diff)
	}
	if relay, other := h.State("relay"), h.State("other"); relay != "standby" || other != "" {
		t.Errorf("State() = %q, %q, want standby, and nothing of a part that has said nothing", relay, other)
	}

	h.Register("kafka", func(context.Context) error { return errors.New("connection refused") })
	want.Status = ops.StatusError
	want.Checks = []ops.Check{want.Checks[0], {Name: "kafka", Status: ops.StatusError, Error: "connection refused"}, want.Checks[1]}
	if diff := cmp.Diff(want, h.Report(t.Context())); diff != "" {
		t.Errorf("Report() (-want +got):\n%s", diff)
	}
}

func TestAProcessIsNotReadyBeforeItsPartsAreNorWhileItStops(t *testing.T) {
	t.Parallel()
	h := ops.NewHealth()
	for _, step := range []struct {
		name string
		do   func()
		want ops.Status
	}{
		{"one part starting", h.Starting, ops.StatusError},
		{"two parts starting", h.Starting, ops.StatusError},
		{"one of them started", h.Started, ops.StatusError},
		{"started", h.Started, ops.StatusOK},
		{"stopping", h.Stopping, ops.StatusError},
		{"started late", h.Started, ops.StatusError},
	} {
		step.do()
		if got := h.Report(t.Context()); got.Status != step.want {
			t.Errorf("Report() when %s = %+v, want %s", step.name, got, step.want)
		}
	}
}

func TestACheckThatHangsIsCutAndTheOthersAreReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := ops.NewHealth()
		h.Register("kafka", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		h.Register("database", func(context.Context) error { return nil })
		began := time.Now()
		report := h.Report(t.Context())
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("Report() took %s, want the two seconds of a check", took)
		}
		want := []ops.Check{{Name: "database", Status: ops.StatusOK}, {Name: "kafka", Status: ops.StatusError, Error: "context deadline exceeded"}}
		if diff := cmp.Diff(want, report.Checks); diff != "" {
			t.Errorf("Report() (-want +got):\n%s", diff)
		}
	})
}

// Some clients do not look at their context while they dial.
func TestACheckThatDoesNotHeedItsContextHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := ops.NewHealth()
		var runs atomic.Int64
		answer := make(chan struct{})
		h.Register("kafka", func(context.Context) error { runs.Add(1); <-answer; return nil })
		h.Register("database", func(context.Context) error { return nil })
		want := []ops.Check{{Name: "database", Status: ops.StatusOK}, {Name: "kafka", Status: ops.StatusError, Error: "no answer within 2s"}}
		for range 3 {
			began := time.Now()
			if diff := cmp.Diff(want, h.Report(t.Context()).Checks); diff != "" {
				t.Errorf("Report() (-want +got):\n%s", diff)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("Report() took %s, want little more than the two seconds of a check", took)
			}
		}
		if n := runs.Load(); n != 1 {
			t.Errorf("the check was started %d times, want once while it has not answered", n)
		}
		close(answer)
		synctest.Wait()
		if got := h.Report(t.Context()); got.Status != ops.StatusOK || runs.Load() != 2 {
			t.Errorf("Report() afterwards = %+v, %d runs, want ok and a second one", got, runs.Load())
		}
	})
}

func TestProbesDoNotAddUpToLoad(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		h := ops.NewHealth()
		h.Register("database", func(context.Context) error { runs++; return nil })
		for range 100 {
			h.Report(t.Context())
		}
		if runs != 1 {
			t.Errorf("100 reports at once ran the check %d times, want 1", runs)
		}
		time.Sleep(time.Second) //nolint:forbidigo // virtual time
		h.Report(t.Context())
		if runs != 2 {
			t.Errorf("a report one second later: %d runs, want 2", runs)
		}
	})
}

func TestAReportThatWasOvertakenIsNotShownAgain(t *testing.T) {
	t.Parallel()
	h := ops.NewHealth()
	h.Register("database", func(context.Context) error {
		h.SetState("relay", "streaming") // while the checks run
		return nil
	})
	h.SetState("relay", "starting")
	h.Report(t.Context())
	if got := h.Report(t.Context()).States["relay"]; got != "streaming" {
		t.Errorf("state = %q, want streaming", got)
	}
}

func TestAProberThatHangsUpDoesNotSpoilTheNextReport(t *testing.T) {
	t.Parallel()
	h := ops.NewHealth()
	h.Register("database", func(ctx context.Context) error { return ctx.Err() })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	h.Report(gone)
	if got := h.Report(t.Context()); got.Status != ops.StatusOK {
		t.Errorf("Report() = %+v, want ok", got)
	}
}

func TestALoopThatStandsStillIsNotAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := ops.NewHealth()
		tick, stop := h.Loop("relay", time.Minute)
		time.Sleep(50 * time.Second) //nolint:forbidigo // virtual time
		tick()
		time.Sleep(time.Minute) //nolint:forbidigo // virtual time
		if err := h.Live(); err != nil {
			t.Errorf("Live() = %v, want nil within the silence", err)
		}
		time.Sleep(time.Second) //nolint:forbidigo // virtual time
		if err := h.Live(); err == nil || err.Error() != "loop relay has been silent for 1m1s" {
			t.Errorf("Live() = %v, want the loop named", err)
		}
		stop()
		if err := h.Live(); err != nil {
			t.Errorf("Live() after the loop ended = %v, want nil", err)
		}
	})
}
