package debezium_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/record"
)

func TestStopWaitsForTheTaskToBeGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		running, half := state("RUNNING", "RUNNING", ""), state("STOPPED", "RUNNING", "")
		between := ok(object{"name": "outbox", "connector": object{"state": "RUNNING", "worker_id": "w:8083"}, "tasks": []object{}})
		w := newWorker(t).on(stop, noContent).on(getConfig, ok(wanted())).on(getStatus, running, between, half, stopped)
		start := time.Now()
		got, err := w.client(debezium.ClientConfig{}).Stop(t.Context(), "outbox")
		if err != nil || got.Connector.State != debezium.Stopped || len(got.Tasks) != 0 || !got.Idle() {
			t.Errorf("Stop(outbox) = %+v, %v, want it stopped and without tasks", got, err)
		}
		if took := time.Since(start); took != 1500*time.Millisecond {
			t.Errorf("Stop(outbox) took %v, want 1.5s: three looks that did not suffice", took)
		}
		if diff := cmp.Diff([]string{stop}, w.changed()); diff != "" {
			t.Errorf("Stop(outbox) asked (-want +got):\n%s", diff)
		}
	})
}

func TestStopEndsWithItsCallerAndItsConnector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorker(t).on(stop, noContent).on(getConfig, ok(wanted())).on(getStatus, state("STOPPED", "RUNNING", ""))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := w.client(debezium.ClientConfig{}).Stop(ctx, "outbox")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 tasks are left") {
			t.Errorf("Stop(outbox) of a task that does not end = %v, want the caller's deadline and what is left", err)
		}
	})
	w := newWorker(t).on(stop, notFound)
	if _, err := w.client(debezium.ClientConfig{}).Stop(t.Context(), "outbox"); !errors.Is(err, debezium.ErrNotFound) {
		t.Errorf("Stop(outbox) of none = %v, want ErrNotFound", err)
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	running := state("RUNNING", "RUNNING", "")
	for _, tc := range []struct {
		name    string
		worker  func(*worker)
		changed []string
		wantErr error
		cause   debezium.Cause
	}{
		{"what runs is left alone", func(w *worker) { w.on(getStatus, running) }, nil, nil, ""},
		{"what is stopped is resumed", func(w *worker) {
			w.on(getStatus, stopped, stopped, running).on(resume, accepted).on(getTasks, tasks(), tasks(wanted()))
		}, []string{resume}, nil, ""},
		{"what failed is restarted", func(w *worker) {
			w.on(getStatus, state("RUNNING", "FAILED", slotTrace), running).on(restart, accepted).on(getTasks, tasks(wanted()))
		}, []string{restart}, nil, ""},
		{"what fails again is said", func(w *worker) {
			w.on(getStatus, stopped, state("RUNNING", "FAILED", slotTrace)).on(resume, accepted).on(getTasks, tasks(wanted()))
		}, []string{resume}, errFailed, "slot_active"},
		{"there is none", func(w *worker) { w.on(getStatus, notFound).on(getConfig, notFound) }, nil, debezium.ErrNotFound, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorker(t).on(getConfig, ok(wanted()))
				tc.worker(w)
				got, err := w.client(debezium.ClientConfig{}).Resume(t.Context(), "outbox", 0)
				checkApplied(t, got, err, tc.wantErr, tc.cause)
				if diff := cmp.Diff(tc.changed, w.changed()); diff != "" {
					t.Errorf("Resume(outbox) asked (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestAConnectorAdoptsASlotThatIsFurther(t *testing.T) {
	t.Parallel()
	at := func(offset object) answer {
		return ok(object{"offsets": []object{{"partition": object{"server": "walpost"}, "offset": offset}}})
	}
	for _, tc := range []struct {
		name    string
		offsets answer
		want    bool
	}{
		{"behind the slot", at(object{"lsn": 98, "lsn_proc": 99, "lsn_commit": 97}), true},
		{"where the slot stands", at(object{"lsn": 100, "lsn_commit": 90}), false},
		{"before the slot by its event, not by what it has processed", at(object{"lsn": 98, "lsn_proc": 101}), false},
		{"before the slot by its event, not by its transaction", at(object{"lsn": 98, "lsn_commit": 100}), false},
		{"nowhere yet", ok(object{"offsets": []object{}}), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t).on(getOffsets, tc.offsets).on(reset, accepted)
			got, err := w.client(debezium.ClientConfig{}).Adopt(t.Context(), "outbox", record.LSN(100))
			if err != nil || got != tc.want {
				t.Errorf("Adopt(outbox, 100) = %t, %v, want %t", got, err, tc.want)
			}
			if asked := len(w.changed()) > 0; asked != tc.want {
				t.Errorf("Adopt(outbox, 100) asked %q, want a reset: %t", w.changed(), tc.want)
			}
		})
	}
	w := newWorker(t).on(getOffsets, at(object{"lsn": 1})).on(reset, answer{400, `{"message":"Connectors must be in the STOPPED state"}`})
	if got, err := w.client(debezium.ClientConfig{}).Adopt(t.Context(), "outbox", 100); err == nil || got || !strings.Contains(err.Error(), "STOPPED") {
		t.Errorf("Adopt(outbox, 100) of a connector that runs = %t, %v, want Kafka Connect's refusal", got, err)
	}
}
