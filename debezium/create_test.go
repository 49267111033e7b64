package debezium_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/debezium"
)

// made is the configuration of connector outbox between Create and what lets it go on.
func made() map[string]string {
	config := wanted()
	config["walpost.apply"] = "unfinished"
	return config
}

func TestCreate(t *testing.T) {
	t.Parallel()
	created := answer{http.StatusCreated, `{"name":"outbox"}`}
	for _, tc := range []struct {
		name    string
		worker  func(*worker)
		wantErr error
		took    time.Duration
		changed []string
	}{
		{
			"it is there when a worker has it, of which another may not know yet",
			func(w *worker) {
				w.on(create, created).on(getConfig, notFound, ok(made())).on(getStatus, noStatus, noStatus, stopped)
			},
			nil, time.Second,
			[]string{create},
		},
		{
			"another, who watches, was faster to let it go on",
			func(w *worker) {
				w.on(create, created).on(getConfig, ok(wanted())).on(getStatus, noStatus, state("RUNNING", "RUNNING", ""))
			},
			nil, 500 * time.Millisecond,
			[]string{create},
		},
		{
			"a rebalance is waited for",
			func(w *worker) {
				w.on(create, rebalancing, created).on(getConfig, ok(made())).on(getStatus, stopped)
			},
			nil, 500 * time.Millisecond,
			[]string{create, create},
		},
		{
			"no worker takes it",
			func(w *worker) { w.on(create, created).on(getConfig, ok(made())).on(getStatus, noStatus) },
			context.DeadlineExceeded, 20 * time.Second,
			[]string{create},
		},
		{
			"workers that do not know how",
			func(w *worker) { // as 3.6.2 says it
				w.on(create, answer{http.StatusInternalServerError, `{"error_code":500,"message":"Unrecognized field \"initial_state\" (class ` +
					`org.apache.kafka.connect.runtime.rest.entities.CreateConnectorRequest), not marked as ignorable (2 known properties: \"config\", \"name\"])"}`})
			},
			debezium.ErrOutdated, 0,
			[]string{create},
		},
		{
			"another was faster, which no patience helps",
			func(w *worker) {
				w.on(create, answer{http.StatusConflict, `{"error_code":409,"message":"Connector outbox already exists"}`})
			},
			errExists, 0,
			[]string{create},
		},
		{"a configuration with problems", func(w *worker) { w.on(validation, refusal) }, debezium.ErrRefused, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorker(t).on(validation, valid)
				tc.worker(w)
				start := time.Now()
				got, err := w.client(debezium.ClientConfig{}).Create(t.Context(), wanted(), 20*time.Second)
				switch {
				case errors.Is(tc.wantErr, errExists):
					if err == nil || errors.Is(err, debezium.ErrConflict) || !strings.Contains(err.Error(), "already exists") {
						t.Errorf("Create(want) = %v, want Kafka Connect's word", err)
					}
				case !errors.Is(err, tc.wantErr):
					t.Errorf("Create(want) = %v, want %v", err, tc.wantErr)
				case err == nil && got.Unfinished != (got.Connector.State == debezium.Stopped):
					t.Errorf("Create(want) = %+v, want it STOPPED and unfinished, or let go on", got)
				}
				if took := time.Since(start); took != tc.took {
					t.Errorf("Create(want) took %v, want %v", took, tc.took)
				}
				if diff := cmp.Diff(tc.changed, w.changed()); diff != "" {
					t.Errorf("Create(want) asked (-want +got):\n%s", diff)
				}
				if tc.changed != nil {
					checkRequest(t, w.body(create))
				}
			})
		})
	}
}

// errExists stands for the answer that there is such a connector.
var errExists = errors.New("already exists")

// checkRequest demands a request that begins nothing.
func checkRequest(t *testing.T, body string) {
	t.Helper()
	type request struct {
		Name   string            `json:"name"`
		Config map[string]string `json:"config"`
		State  string            `json:"initial_state"`
	}
	var got request
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("Create(want) sent %s: %v", body, err)
	}
	if diff := cmp.Diff(request{"outbox", made(), "STOPPED"}, got); diff != "" {
		t.Errorf("Create(want) sent (-want +got):\n%s", diff)
	}
}

// Whatever lets a connector go on that Create has made, and who stops it, takes the mark away: from then on its state is somebody's wish.
func TestWhatCreateHasMadeIsFinished(t *testing.T) {
	t.Parallel()
	running := state("RUNNING", "RUNNING", "")
	unmarked := func(t *testing.T, w *worker, want ...string) {
		t.Helper()
		var sent map[string]string
		if err := json.Unmarshal([]byte(w.body(putConfig)), &sent); err != nil {
			t.Fatalf("no configuration was sent: %v", err)
		}
		if diff := cmp.Diff(wanted(), sent); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(want, w.changed()); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
	}
	marked := func(t *testing.T) *worker {
		t.Helper()
		return newWorker(t).on(validation, valid).on(getConfig, ok(made())).on(putConfig, ok(wanted())).on(resume, accepted).on(stop, noContent).
			on(getTasks, tasks(), tasks(wanted())).on(getStatus, stopped, stopped, running)
	}
	for name, first := range map[string]answer{"with a worker": stopped, "on its way": noStatus} {
		t.Run("apply, "+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := marked(t).on(getStatus, first, stopped, running)
				got, err := w.client(debezium.ClientConfig{}).Apply(t.Context(), wanted(), 0)
				checkApplied(t, got, err, nil, "")
				unmarked(t, w, putConfig, resume)
			})
		})
		t.Run("resume, "+name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := marked(t).on(getStatus, first, stopped, running)
				got, err := w.client(debezium.ClientConfig{}).Resume(t.Context(), "outbox", 0)
				checkApplied(t, got, err, nil, "")
				unmarked(t, w, putConfig, resume)
			})
		})
	}
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		w := marked(t)
		if got, err := w.client(debezium.ClientConfig{}).Stop(t.Context(), "outbox"); err != nil || got.Unfinished {
			t.Errorf("Stop(outbox) = %+v, %v, want it stopped as by somebody", got, err)
		}
		unmarked(t, w, stop, putConfig)
	})
	t.Run("stop while nothing can be configured", func(t *testing.T) {
		t.Parallel()
		w := marked(t).on(putConfig, answer{http.StatusBadRequest, `{"error_code":400,"message":"Connector configuration is invalid"}`})
		if got, err := w.client(debezium.ClientConfig{}).Stop(t.Context(), "outbox"); err != nil || !got.Unfinished {
			t.Errorf("Stop(outbox) = %+v, %v, want it stopped all the same", got, err)
		}
	})
}

func TestAnUnfinishedConnectorIsNobodysStop(t *testing.T) {
	t.Parallel()
	const next = "  It was made, and has not been let go on since: run `walpost connector apply`"
	for _, tc := range []struct {
		config     map[string]string
		status     answer
		unfinished bool
		want       string // a line
	}{
		{made(), stopped, true, next},
		{made(), noStatus, true, next},
		{wanted(), stopped, false, "  Somebody paused or stopped it: run `walpost connector resume`"},
		{wanted(), noStatus, false, "no task yet"},
		{made(), state("RUNNING", "RUNNING", ""), false, "task 0 RUNNING on w:8083"}, // resumed by other means
		{made(), state("RUNNING", "FAILED", slotTrace), false, "task 0 FAILED on w:8083"},
	} {
		w := newWorker(t).on(getConfig, ok(tc.config)).on(getStatus, tc.status)
		got, err := w.client(debezium.ClientConfig{}).Status(t.Context(), "outbox")
		if err != nil || got.Unfinished != tc.unfinished || !slices.Contains(strings.Split(got.String(), "\n"), tc.want) {
			t.Errorf("Status(outbox) = %q, %v, unfinished %t, want %q, %t", got, err, got.Unfinished, tc.want, tc.unfinished)
		}
	}
}
