package debezium_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/debezium"
)

// old is a configuration that differs from wanted.
func old() map[string]string {
	config := wanted()
	config["slot.name"] = "other"
	return config
}

func TestApply(t *testing.T) {
	t.Parallel()
	unassigned := state("UNASSIGNED", "UNASSIGNED", "")
	running := state("RUNNING", "RUNNING", "")
	failed := state("RUNNING", "FAILED", slotTrace)
	failedOtherwise := state("RUNNING", "FAILED", "java.lang.RuntimeException: something else\n")
	for _, tc := range []struct {
		name    string
		worker  func(*worker)
		changed []string
		took    time.Duration // at least, and less than a second more
		wantErr error         // one of the sentinels below, nil for success
		cause   debezium.Cause
	}{
		{
			name: "a new connector counts as running when it has lasted",
			worker: func(w *worker) {
				w.on(getConfig, notFound).on(putConfig, ok(wanted())).
					on(getTasks, tasks(), tasks(), tasks(wanted())).on(getStatus, unassigned, unassigned, unassigned, running)
			},
			changed: []string{putConfig}, took: 6500 * time.Millisecond,
		},
		{
			name: "what runs already is left alone",
			worker: func(w *worker) {
				w.on(getConfig, ok(wanted())).on(getStatus, running)
			},
		},
		{
			name: "what failed is restarted though nothing changes",
			worker: func(w *worker) {
				w.on(getConfig, ok(wanted())).on(restart, accepted).on(getTasks, tasks(wanted())).on(getStatus, failed, failed, failed, running)
			},
			changed: []string{restart}, took: 5500 * time.Millisecond,
		},
		{
			name: "the state of before the change does not count",
			worker: func(w *worker) {
				w.on(getConfig, ok(old())).on(putConfig, ok(wanted())).
					on(getTasks, tasks(old()), tasks(old()), tasks(old()), tasks(wanted())).on(getStatus, running)
			},
			changed: []string{putConfig}, took: 6500 * time.Millisecond,
		},
		{
			name: "a failure of before the change does not count while it may be old",
			worker: func(w *worker) {
				w.on(getConfig, ok(old())).on(putConfig, ok(wanted())).on(getTasks, tasks(wanted())).on(getStatus, failed, failed, failed, running)
			},
			changed: []string{putConfig}, took: 6 * time.Second,
		},
		{
			name: "a failure that stays counts",
			worker: func(w *worker) {
				w.on(getConfig, ok(old())).on(putConfig, ok(wanted())).on(getTasks, tasks(wanted())).on(getStatus, failed)
			},
			changed: []string{putConfig}, took: 5 * time.Second, wantErr: errFailed, cause: "slot_active",
		},
		{
			name: "a new failure counts at once",
			worker: func(w *worker) {
				w.on(getConfig, ok(old())).on(putConfig, ok(wanted())).on(getTasks, tasks(wanted())).on(getStatus, failedOtherwise, failed)
			},
			changed: []string{putConfig}, wantErr: errFailed, cause: "slot_active",
		},
		{
			name: "a task that fails after a moment of running is a failure",
			worker: func(w *worker) {
				w.on(getConfig, notFound).on(putConfig, ok(wanted())).on(getTasks, tasks(wanted())).
					on(getStatus, running, running, running, running, failed)
			},
			changed: []string{putConfig}, took: 2 * time.Second, wantErr: errFailed, cause: "slot_active",
		},
		{
			name: "a connector that somebody stopped is resumed, with the new configuration only",
			worker: func(w *worker) {
				w.on(getConfig, ok(old())).on(putConfig, ok(wanted())).on(resume, accepted).
					on(getTasks, tasks(), tasks(), tasks(wanted())).on(getStatus, stopped, stopped, running)
			},
			changed: []string{putConfig, resume}, took: 6 * time.Second,
		},
		{
			name: "what somebody paused is resumed though nothing changes",
			worker: func(w *worker) {
				w.on(getConfig, ok(wanted())).on(resume, accepted).on(getTasks, tasks(wanted())).
					on(getStatus, state("PAUSED", "PAUSED", ""), state("PAUSED", "PAUSED", ""), running)
			},
			changed: []string{resume}, took: 5500 * time.Millisecond,
		},
		{
			name: "a task that failed and was paused is resumed and restarted",
			worker: func(w *worker) {
				w.on(getConfig, ok(wanted())).on(resume, accepted).on(restart, accepted).on(getTasks, tasks(wanted())).
					on(getStatus, state("PAUSED", "FAILED", slotTrace), running)
			},
			changed: []string{resume, restart}, took: 5 * time.Second,
		},
		{
			name: "a connector that stays stopped is out of time, however long it has been so",
			worker: func(w *worker) {
				w.on(getConfig, ok(wanted())).on(resume, accepted).on(getTasks, tasks()).on(getStatus, stopped)
			},
			changed: []string{resume}, took: time.Minute, wantErr: context.DeadlineExceeded,
		},
		{
			name: "the time is up",
			worker: func(w *worker) {
				w.on(getConfig, notFound).on(putConfig, ok(wanted())).on(getTasks, tasks(wanted())).on(getStatus, unassigned)
			},
			changed: []string{putConfig}, took: time.Minute, wantErr: context.DeadlineExceeded,
		},
		{
			name:    "a configuration with problems is not applied",
			worker:  func(w *worker) { w.on(getConfig, ok(old())).on(validation, refusal) },
			wantErr: debezium.ErrRefused,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorker(t).on(validation, valid)
				tc.worker(w)
				start := time.Now()
				got, err := w.client(debezium.ClientConfig{}).Apply(t.Context(), wanted(), 0)
				took := time.Since(start)
				checkApplied(t, got, err, tc.wantErr, tc.cause)
				if took < tc.took || took >= tc.took+time.Second {
					t.Errorf("Apply(want) took %v, want %v", took, tc.took)
				}
				if diff := cmp.Diff(tc.changed, w.changed()); diff != "" {
					t.Errorf("Apply(want) asked (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// errFailed stands for a NotRunningError that is no timeout.
var errFailed = errors.New("does not run")

func checkApplied(t *testing.T, got debezium.Status, err, want error, cause debezium.Cause) {
	t.Helper()
	var notRunning *debezium.NotRunningError
	switch {
	case want == nil:
		if err != nil || !got.Running() {
			t.Errorf("Apply(want) = %v, %v, want running", got, err)
		}
	case errors.Is(want, errFailed):
		if !errors.As(err, &notRunning) || notRunning.TimedUp || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Apply(want) = %v, want a NotRunningError without timeout", err)
		}
		if failed := notRunning.Status.Failed(); cause != "" && (len(failed) != 1 || failed[0].Explanation.Cause != cause) {
			t.Errorf("Apply(want) = %v, want the cause %s", err, cause)
		}
	default:
		if !errors.Is(err, want) {
			t.Errorf("Apply(want) = %v, want %v", err, want)
		}
	}
}

func TestApplyEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorker(t).on(validation, valid).on(getConfig, notFound).on(putConfig, ok(wanted())).
			on(getTasks, tasks(wanted())).on(getStatus, state("UNASSIGNED", "UNASSIGNED", ""))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := w.client(debezium.ClientConfig{}).Apply(ctx, wanted(), time.Hour)
		var notRunning *debezium.NotRunningError
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &notRunning) {
			t.Errorf("Apply(want) of a caller whose time is up = %v, want its own error", err)
		}
	})
}
