package debezium_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/debezium"
)

// watchFor watches connector outbox for a time and returns the steps, each with the second it came at.
func watchFor(t *testing.T, w *worker, limit time.Duration, cfg debezium.WatchConfig) ([]string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	var steps []string
	cfg.Report = func(e debezium.WatchEvent) {
		text := fmt.Sprintf("%v %s", time.Since(start), e.Step)
		switch e.Step {
		case debezium.WatchFailed:
			text += fmt.Sprintf(" %s, restart %d after %v", e.Status.Failed()[0].Explanation.Cause, e.Attempt, e.Wait)
		case debezium.WatchRestarted:
			text += fmt.Sprintf(" %d", e.Attempt)
		case debezium.WatchNotApplied:
			text += fmt.Sprintf(" %v, %d, again after %v", e.Err, e.Attempt, e.Wait)
		}
		steps = append(steps, text)
	}
	return steps, w.client(debezium.ClientConfig{RetryFor: time.Second}).Watch(ctx, "outbox", cfg)
}

func TestWatch(t *testing.T) {
	t.Parallel()
	running, failed := state("RUNNING", "RUNNING", ""), state("RUNNING", "FAILED", slotTrace)
	unavailable := answer{500, `{"message":"Request timed out"}`}
	repeat := func(n int, a answer) []answer {
		var list []answer
		for range n {
			list = append(list, a)
		}
		return list
	}
	for _, tc := range []struct {
		name   string
		states []answer // one a look; a look at a failure that is due asks twice
		limit  time.Duration
		cfg    debezium.WatchConfig
		want   []string
	}{
		{"a healthy connector is said once", []answer{running}, time.Hour, debezium.WatchConfig{}, []string{"0s running"}},
		{
			"a failed task is restarted, ever more slowly, up to a bound",
			[]answer{failed},
			5 * time.Minute,
			debezium.WatchConfig{BackoffMin: 10 * time.Second, BackoffMax: time.Minute},
			[]string{
				"0s failed slot_active, restart 1 after 10s", "10s restarted 1",
				"15s failed slot_active, restart 2 after 20s", "35s restarted 2",
				"40s failed slot_active, restart 3 after 40s", "1m20s restarted 3",
				"1m25s failed slot_active, restart 4 after 1m0s", "2m25s restarted 4",
				"2m30s failed slot_active, restart 5 after 1m0s", "3m30s restarted 5",
				"3m35s failed slot_active, restart 6 after 1m0s", "4m35s restarted 6",
				"4m40s failed slot_active, restart 7 after 1m0s",
			},
		},
		{
			"a failure soon after the last goes on in the row", slices.Concat([]answer{failed, failed, failed}, repeat(10, running), []answer{failed}), 65 * time.Second,
			debezium.WatchConfig{Healthy: time.Minute},
			[]string{
				"0s failed slot_active, restart 1 after 5s", "5s restarted 1", "10s running",
				"1m0s failed slot_active, restart 2 after 10s",
			},
		},
		{
			"a failure after a healthy time begins a new row", slices.Concat([]answer{failed, failed, failed}, repeat(13, running), []answer{failed}), 79 * time.Second,
			debezium.WatchConfig{Healthy: time.Minute},
			[]string{
				"0s failed slot_active, restart 1 after 5s", "5s restarted 1", "10s running",
				"1m15s failed slot_active, restart 1 after 5s",
			},
		},
		{
			"an outage of Kafka Connect is not one of the connector",
			slices.Concat([]answer{failed, failed, failed}, repeat(6, running), []answer{unavailable}, repeat(7, running), []answer{failed}), 84 * time.Second,
			debezium.WatchConfig{Healthy: time.Minute},
			[]string{
				"0s failed slot_active, restart 1 after 5s", "5s restarted 1", "10s running", "40s unavailable", "45s running",
				"1m20s failed slot_active, restart 1 after 5s",
			},
		},
		{
			"a connector that came back by itself is not restarted",
			[]answer{failed, running},
			time.Minute,
			debezium.WatchConfig{BackoffMin: 10 * time.Second},
			[]string{"0s failed slot_active, restart 1 after 10s", "5s running"},
		},
		{
			"an outage of Kafka Connect is sat out",
			[]answer{running, unavailable, unavailable, running, failed},
			22 * time.Second,
			debezium.WatchConfig{},
			[]string{"0s running", "5s unavailable", "15s running", "20s failed slot_active, restart 1 after 5s"},
		},
		{
			"a paused connector is left alone",
			[]answer{running, state("PAUSED", "PAUSED", ""), running},
			time.Minute,
			debezium.WatchConfig{},
			[]string{"0s running", "5s paused", "10s running"},
		},
		{
			"a connector on its way is not restarted",
			[]answer{state("UNASSIGNED", "UNASSIGNED", ""), running},
			time.Minute,
			debezium.WatchConfig{},
			[]string{"0s unassigned", "5s running"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorker(t).on(getStatus, tc.states...).on(getConfig, ok(wanted())).on(restart, answer{202, "{}"})
				got, err := watchFor(t, w, tc.limit, tc.cfg)
				if err != nil {
					t.Errorf("Watch(outbox) = %v, want nil at the end of its context", err)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("Watch(outbox) reported (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestWatchTriesARestartAgainThatKafkaConnectRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorker(t).on(getStatus, state("RUNNING", "FAILED", slotTrace)).on(getConfig, ok(wanted())).
			on(restart, answer{500, `{"message":"Request timed out"}`}, answer{202, "{}"})
		got, err := watchFor(t, w, 12*time.Second, debezium.WatchConfig{})
		if err != nil {
			t.Errorf("Watch(outbox) = %v, want nil", err)
		}
		if diff := cmp.Diff([]string{"0s failed slot_active, restart 1 after 5s", "5s unavailable", "10s restarted 1"}, got); diff != "" {
			t.Errorf("Watch(outbox) reported (-want +got):\n%s", diff)
		}
	})
}

func TestWatchApplies(t *testing.T) {
	t.Parallel()
	running, early := state("RUNNING", "RUNNING", ""), errors.New("no slot")
	for _, tc := range []struct {
		name    string
		states  []answer
		applies []error // what Apply returns, one after the other; the last stays
		resume  bool
		limit   time.Duration
		want    []string
	}{
		{"at first, though it runs", []answer{running}, []error{nil}, false, time.Hour, []string{"0s applied", "0s running"}},
		{
			"until it succeeds, ever more slowly, up to a bound",
			[]answer{running},
			[]error{early, early, early, early, early, early, early, nil},
			false, 100 * time.Second,
			[]string{
				"0s not_applied no slot, 1, again after 1s", "1s not_applied no slot, 2, again after 2s", "3s not_applied no slot, 3, again after 4s",
				"7s not_applied no slot, 4, again after 8s", "15s not_applied no slot, 5, again after 16s", "31s not_applied no slot, 6, again after 30s",
				"1m1s not_applied no slot, 7, again after 30s", "1m31s applied", "1m31s running",
			},
		},
		{
			"what is missing, whenever it is",
			[]answer{running, running, running, notFound, notFound, running},
			[]error{early, nil, early, nil},
			false, 20 * time.Second,
			[]string{
				"0s not_applied no slot, 1, again after 1s", "1s applied", "1s running", "6s not_applied no slot, 1, again after 1s", "7s applied", "7s running",
			},
		},
		{
			"once, and restarts what fails then",
			[]answer{state("RUNNING", "FAILED", slotTrace)},
			[]error{&debezium.NotRunningError{}},
			false, 6 * time.Second,
			[]string{"0s applied", "0s failed slot_active, restart 1 after 5s", "5s restarted 1"},
		},
		{
			"not what somebody stopped, until somebody resumes it",
			[]answer{stopped, stopped, running},
			[]error{nil},
			false, time.Minute,
			[]string{"0s paused", "10s applied", "10s running"},
		},
		{
			"not what somebody stopped later",
			[]answer{running, running, stopped},
			[]error{nil},
			true, time.Minute,
			[]string{"0s applied", "0s running", "5s paused"},
		},
		{"what somebody stopped, when it is to resume", []answer{stopped, running}, []error{nil}, true, time.Minute, []string{"0s applied", "0s running"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorker(t).on(getStatus, tc.states...).on(getConfig, ok(wanted())).on(restart, accepted)
				if slices.ContainsFunc(tc.states, func(a answer) bool { return a.status == 404 }) {
					w.on(getConfig, notFound)
				}
				got, err := watchFor(t, w, tc.limit, debezium.WatchConfig{Resume: tc.resume, Apply: func(context.Context) error {
					err := tc.applies[0]
					if len(tc.applies) > 1 {
						tc.applies = tc.applies[1:]
					}
					return err
				}})
				if err != nil {
					t.Errorf("Watch(outbox) = %v, want nil at the end of its context", err)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("Watch(outbox) reported (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Whoever made a connector and was interrupted before it was let go on has stopped nothing.
func TestWatchGoesOnWithWhatWasMadeAndNotLetGoOn(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		states []answer // one a look
		config answer
		want   []string
	}{
		{"found at first", []answer{stopped, state("RUNNING", "RUNNING", "")}, ok(made()), []string{"0s applied", "0s running"}},
		{
			"left behind by an attempt of its own",
			[]answer{notFound, stopped, state("RUNNING", "RUNNING", "")},
			ok(made()),
			[]string{"0s not_applied cut off, 1, again after 1s", "1s applied", "1s running"},
		},
		{"stopped by somebody meanwhile", []answer{notFound, stopped}, ok(wanted()), []string{"0s not_applied cut off, 1, again after 1s", "1s paused"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorker(t).on(getStatus, tc.states...).on(getConfig, tc.config)
				missing := tc.states[0].status == 404
				if missing {
					w.on(getConfig, notFound, tc.config)
				}
				got, err := watchFor(t, w, time.Minute, debezium.WatchConfig{Apply: func(context.Context) error {
					if missing {
						missing = false
						return errors.New("cut off")
					}
					return nil
				}})
				if err != nil {
					t.Errorf("Watch(outbox) = %v, want nil at the end of its context", err)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("Watch(outbox) reported (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestWatchThatEndsWhileItAppliesReportsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorker(t).on(getStatus, state("RUNNING", "RUNNING", ""))
		got, err := watchFor(t, w, 3*time.Second, debezium.WatchConfig{Apply: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}})
		if err != nil || got != nil {
			t.Errorf("Watch(outbox) = %v, reported %q, want nil and nothing", err, got)
		}
	})
}

func TestWatchEndsWithItsConnector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorker(t).on(getStatus, state("RUNNING", "RUNNING", ""), notFound).on(getConfig, notFound)
		if _, err := watchFor(t, w, time.Hour, debezium.WatchConfig{}); !errors.Is(err, debezium.ErrNotFound) {
			t.Errorf("Watch(outbox) = %v, want ErrNotFound", err)
		}
	})
	w := newWorker(t)
	if err := w.client(debezium.ClientConfig{}).Watch(t.Context(), "outbox", debezium.WatchConfig{Interval: -1}); err == nil {
		t.Error("Watch with a negative interval = nil, want an error")
	}
}
