package debezium_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/debezium"
)

func TestPlanShowsTheDifference(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		have   answer
		change func(want map[string]string)
		want   string
	}{
		{"a new connector", notFound, func(want map[string]string) { clear(want); want["name"], want["connector.class"] = "outbox", "Plugin" }, `
connector outbox is new
+ connector.class = Plugin
+ name = outbox`},
		{"nothing to do", ok(wanted()), func(map[string]string) {}, `
connector outbox is as wanted`},
		{"settings that come, change and go", ok(wanted()), func(want map[string]string) {
			want["plugin.name"], want["slot.name"] = "pgoutput", "t"
			delete(want, "poll.interval.ms")
		}, `
connector outbox changes
+ plugin.name = pgoutput
- poll.interval.ms = 50
~ slot.name = s -> t`},
		{"a reference is shown, a secret is not", ok(map[string]string{
			"name": "outbox", "database.password": "hunter2", "producer.override.sasl.jaas.config": "x",
		}), func(want map[string]string) {
			clear(want)
			want["name"], want["connector.class"], want["database.password"] = "outbox", "Plugin", "${file:/s:pw}"
		}, `
connector outbox changes
+ connector.class = Plugin
~ database.password = ******** -> ${file:/s:pw}
- producer.override.sasl.jaas.config = ********`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t).on(getConfig, tc.have).on(validation, valid)
			want := wanted()
			tc.change(want)
			got, err := w.client(debezium.ClientConfig{}).Plan(t.Context(), want)
			if err != nil {
				t.Fatalf("Plan(%v) = %v, want no error", want, err)
			}
			if diff := cmp.Diff(strings.TrimPrefix(tc.want, "\n"), got.String()); diff != "" {
				t.Errorf("Plan(%v) (-want +got):\n%s", want, diff)
			}
			if changed := w.changed(); changed != nil {
				t.Errorf("Plan(%v) asked %q, want no change", want, changed)
			}
		})
	}
}

// refusal is a validation that found something.
var refusal = answer{http.StatusOK, `{"name":"x","error_count":2,"configs":[
  {"definition":{"name":"poll.interval.ms"},"value":{"name":"poll.interval.ms","value":"50","errors":["A long value is expected","and another"]}},
  {"definition":{"name":"slot.name"},"value":{"name":"slot.name","value":"s","errors":[]}},
  {"definition":{"name":"database.hostname"},"value":{"name":"database.hostname","errors":["FATAL: password authentication failed for user \"relay\", not hunter2"]}}]}`}

func TestPlanReportsTheProblemsOfEachSetting(t *testing.T) {
	t.Parallel()
	want := wanted()
	want["database.user"], want["database.password"] = "relay", "hunter2"
	w := newWorker(t).on(getConfig, ok(want)).on(validation, refusal)
	got, err := w.client(debezium.ClientConfig{}).Plan(t.Context(), want)
	if err != nil {
		t.Fatalf("Plan(want) = %v, want no error", err)
	}
	if diff := cmp.Diff(`connector outbox is as wanted
! poll.interval.ms: A long value is expected
! poll.interval.ms: and another
! database.hostname: PostgreSQL refuses the password of role relay.
  Check the password where database.password points, on every worker; a reference to a missing key, or to a file outside the provider's allowed.paths, is sent as it stands. Then run `+"`walpost connector restart`"+`.
  (FATAL: password authentication failed for user "relay", not ********)`, got.String()); diff != "" {
		t.Errorf("Plan(want) (-want +got):\n%s", diff)
	}
}

func TestARefusalBeforeTheValidationIsAProblemToo(t *testing.T) {
	t.Parallel()
	for message, cause := range map[string]debezium.Cause{
		"Failed to find any class that implements Connector and which name matches Plugin, available connectors are: none": "plugin_unknown",
		"Could not read properties from file /etc/secrets":                                                                 "secret_unreadable",
		"Request timed out": "",
	} {
		w := newWorker(t).on(getConfig, notFound).on(validation, answer{http.StatusInternalServerError, `{"error_code":500,"message":"` + message + `"}`})
		got, err := w.client(debezium.ClientConfig{}).Plan(t.Context(), wanted())
		switch {
		case cause == "" && err == nil:
			t.Errorf("Plan(want) with %q = %v, want an error", message, got)
		case cause != "" && (err != nil || len(got.Problems) != 1 || got.Problems[0].Explanation.Cause != cause):
			t.Errorf("Plan(want) with %q = %v, %v, want one problem: %s", message, got, err, cause)
		}
	}
}

func TestStatusExplainsAFailedTask(t *testing.T) {
	t.Parallel()
	w := newWorker(t).on(getStatus, state("RUNNING", "FAILED", slotTrace)).on(getConfig, ok(wanted()))
	got, err := w.client(debezium.ClientConfig{}).Status(t.Context(), "outbox")
	if err != nil {
		t.Fatalf("Status(outbox) = %v, want no error", err)
	}
	if got.Running() || len(got.Failed()) != 1 || got.Failed()[0].Explanation.Cause != "slot_active" {
		t.Errorf("Status(outbox) = %+v, want task 0 failed because the slot is active", got)
	}
	if diff := cmp.Diff("connector RUNNING on w:8083\ntask 0 FAILED on w:8083\n  Another reader holds slot s, the server's process 7.\n"+
		"  Stop it (`walpost slot status` shows it; it may be a walpost relay or a second connector) or give this one a slot of its own, "+
		"then run `walpost connector restart`.\n  (ERROR: replication slot \"s\" is active for PID 7)", got.String()); diff != "" {
		t.Errorf("Status(outbox).String() (-want +got):\n%s", diff)
	}
}

func TestAConnectorBeforeItsFirstStatusIsUnassigned(t *testing.T) {
	t.Parallel()
	w := newWorker(t).on(getStatus, noStatus).on(getConfig, ok(wanted()))
	got, err := w.client(debezium.ClientConfig{}).Status(t.Context(), "outbox")
	if want := "connector UNASSIGNED\nno task yet"; err != nil || got.String() != want {
		t.Errorf("Status(outbox) = %q, %v, want %q", got, err, want)
	}
}

func TestRestartTouchesOnlyWhatFailed(t *testing.T) {
	t.Parallel()
	w := newWorker(t).on(getStatus, state("RUNNING", "RUNNING", ""))
	if got, err := w.client(debezium.ClientConfig{}).Restart(t.Context(), "outbox"); err != nil || got != nil || w.changed() != nil {
		t.Errorf("Restart(outbox) of what runs = %v, %v, asked %q, want nothing", got, err, w.changed())
	}
	w = newWorker(t).on(getStatus, state("RUNNING", "FAILED", slotTrace)).on(getConfig, ok(wanted())).
		on(restart, answer{http.StatusAccepted, "{}"})
	got, err := w.client(debezium.ClientConfig{}).Restart(t.Context(), "outbox")
	if err != nil || len(got) != 1 || got[0].Task != 0 || got[0].Explanation == nil {
		t.Errorf("Restart(outbox) = %+v, %v, want task 0 with its explanation", got, err)
	}
	if diff := cmp.Diff([]string{restart}, w.changed()); diff != "" {
		t.Errorf("Restart(outbox) asked (-want +got):\n%s", diff)
	}
}

func TestDeleteSaysWhatStays(t *testing.T) {
	t.Parallel()
	w := newWorker(t).on(getConfig, ok(wanted())).on(remove, rebalancing, noContent)
	got, err := w.client(debezium.ClientConfig{Poll: 1}).Delete(t.Context(), "outbox")
	if err != nil {
		t.Fatalf("Delete(outbox) = %v, want no error", err)
	}
	if diff := cmp.Diff(debezium.Remains{Slot: "s", Publication: "p", Database: "shop", Offsets: "outbox"}, got); diff != "" {
		t.Errorf("Delete(outbox) (-want +got):\n%s", diff)
	}
	for _, want := range []string{"slot s of database shop stays", "walpost slot drop --slot s", "publication p", "position of connector outbox"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("Remains = %q, want it to say %q", got, want)
		}
	}
	w = newWorker(t).on(getConfig, notFound)
	if _, err := w.client(debezium.ClientConfig{}).Delete(t.Context(), "outbox"); !errors.Is(err, debezium.ErrNotFound) {
		t.Errorf("Delete(outbox) of none = %v, want ErrNotFound", err)
	}
}

func TestAConnectorRunsWhenAllOfItDoes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		connector debezium.State
		tasks     []debezium.State
		want      bool
	}{
		{"RUNNING", []debezium.State{"RUNNING"}, true},
		{"RUNNING", nil, false},
		{"UNASSIGNED", []debezium.State{"RUNNING"}, false},
		{"RUNNING", []debezium.State{"RUNNING", "UNASSIGNED"}, false},
		{"RUNNING", []debezium.State{"RESTARTING"}, false},
		{"PAUSED", []debezium.State{"PAUSED"}, false},
	} {
		s := debezium.Status{Connector: debezium.Part{Task: -1, State: tc.connector}}
		for i, state := range tc.tasks {
			s.Tasks = append(s.Tasks, debezium.Part{Task: i, State: state})
		}
		if got := s.Running(); got != tc.want {
			t.Errorf("Running() of connector %s with tasks %v = %t, want %t", tc.connector, tc.tasks, got, tc.want)
		}
	}
}

func TestErrorsOfApplyAreWholeStories(t *testing.T) {
	t.Parallel()
	w := newWorker(t).on(getConfig, notFound).on(validation, refusal)
	_, err := w.client(debezium.ClientConfig{}).Apply(t.Context(), wanted(), 0)
	for _, want := range []string{"refused by Kafka Connect:\n", "\n  poll.interval.ms: A long value is expected\n", "\n    Check the password"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Apply(want) = %v, want it to say %q", err, want)
		}
	}
	failed := &debezium.NotRunningError{Status: debezium.Status{Name: "outbox", Connector: debezium.Part{Task: -1, State: "PAUSED"}}}
	if want := "connector outbox does not run:\nconnector PAUSED\n  Somebody paused or stopped it: run `walpost connector resume`"; failed.Error() != want {
		t.Errorf("NotRunningError = %q, want %q", failed, want)
	}
}
