package ops_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

func TestTheRelaysStateIsItsHealth(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	observer := o.RelayObserver()
	for _, tc := range []struct {
		state relay.State
		cause error
		want  ops.Check
	}{
		{relay.StateStarting, nil, ops.Check{Name: "relay", Status: ops.StatusError, Error: "starting"}},
		{relay.StateStreaming, nil, ops.Check{Name: "relay", Status: ops.StatusOK}},
		{relay.StateRetrying, errors.New("open sink: refused"), ops.Check{Name: "relay", Status: ops.StatusError, Error: "retrying: open sink: refused"}},
		{relay.StateStalled, errors.New("not acknowledged"), ops.Check{Name: "relay", Status: ops.StatusError, Error: "stalled: not acknowledged"}},
		{relay.StateStandby, relay.ErrStandby, ops.Check{Name: "relay", Status: ops.StatusOK}}, // a standby is ready
	} {
		observer.StateChanged(tc.state, tc.cause)
		report := o.Health.Report(t.Context())
		if len(report.Checks) != 1 || report.Checks[0] != tc.want || report.States["relay"] != tc.state.String() {
			t.Errorf("Report() of a relay that is %s = %+v, want %+v", tc.state, report, tc.want)
		}
		want := fmt.Sprintf("# HELP walpost_relay_state 1 for the state that the relay is in.\n# TYPE walpost_relay_state gauge\nwalpost_relay_state{state=%q} 1\n", tc.state)
		if err := testutil.GatherAndCompare(o.Registry, strings.NewReader(want), "walpost_relay_state"); err != nil {
			t.Error(err)
		}
	}
}

func TestTheDeliveryInForceIsShown(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	observer := o.RelayObserver()
	observer.Delivering(relay.ExactlyOnce)
	observer.Delivering(relay.Transactional) // the brokers are others now
	want := "# HELP walpost_relay_delivery 1 for the delivery that is in force.\n# TYPE walpost_relay_delivery gauge\nwalpost_relay_delivery{mode=\"transactional\"} 1\n"
	if err := testutil.GatherAndCompare(o.Registry, strings.NewReader(want), "walpost_relay_delivery"); err != nil {
		t.Error(err)
	}
}

func TestPublishedEventsAreCounted(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	observer := o.RelayObserver()
	event := relay.Event{
		CommittedAt: time.Now().Add(time.Hour), Position: relay.Position{Commit: 1 << 20},
		Record: record.Record{Topic: "a", Key: []byte("key"), Value: []byte("value")},
	}
	observer.Published([]relay.Event{event, event}, 10*time.Millisecond)
	observer.Published([]relay.Event{event}, 10*time.Millisecond)
	observer.Confirmed(1<<20 + 8)
	observer.Skipped(3)
	observer.TransactionEnded(relay.Committed)
	observer.TransactionEnded(relay.Committed)
	observer.TransactionEnded(relay.UnknownOutcome)
	wantMetrics(t, o, `
walpost_relay_bytes_total 27
walpost_relay_confirmed_lsn_bytes 1.048584e+06
walpost_relay_events_total{topic="a"} 3
walpost_relay_published_lsn_bytes 1.048576e+06
walpost_relay_skipped_total{reason="watermark"} 3
walpost_relay_transactions_total{outcome="aborted"} 0
walpost_relay_transactions_total{outcome="committed"} 2
walpost_relay_transactions_total{outcome="unknown"} 1
`)
	if n, events := histogram(t, o, "walpost_relay_batch_events"); n != 2 || events != 3 {
		t.Errorf("%d batches of %v events, want 2 of 3", n, events)
	}
}

// wantMetrics compares the counters and gauges that want names, a line each.
func wantMetrics(t *testing.T, o *ops.Ops, want string) {
	t.Helper()
	families, err := o.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for _, f := range families {
		if !strings.Contains(want, "\n"+f.GetName()) {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue()))
			}
			fmt.Fprintf(&got, "%s%s %v\n", f.GetName(), strings.Join(labels, ""), m.GetCounter().GetValue()+m.GetGauge().GetValue())
		}
	}
	if diff := cmp.Diff(strings.TrimSpace(want), strings.TrimSpace(got.String())); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// histogram is the number of what was observed and its sum.
func histogram(t *testing.T, o *ops.Ops, name string) (count uint64, sum float64) {
	t.Helper()
	families, err := o.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name && len(f.GetMetric()) == 1 {
			h := f.GetMetric()[0].GetHistogram()
			return h.GetSampleCount(), h.GetSampleSum()
		}
	}
	t.Fatalf("there is no histogram %s", name)
	return 0, 0
}

func TestTheTimeFromCommitToAcknowledgementIsMeasured(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOps(t)
		observer := o.RelayObserver()
		observer.Published([]relay.Event{{CommittedAt: time.Now().Add(-2 * time.Second)}, {CommittedAt: time.Now().Add(-time.Second)}}, time.Millisecond)
		if n, seconds := histogram(t, o, "walpost_relay_publish_delay_seconds"); n != 2 || seconds != 3 {
			t.Errorf("%d events took %v s together, want 2 and 3", n, seconds)
		}
	})
}

func TestTheLagIsTheAgeOfTheOldestEventThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOps(t)
		observer := o.RelayObserver()
		want := func(when, lag string) {
			t.Helper()
			t.Log(when)
			wantMetrics(t, o, "\nwalpost_relay_lag_seconds "+lag)
		}
		pass := func(d time.Duration) {
			time.Sleep(d) //nolint:forbidigo // virtual time
		}
		want("before the first event", "0")
		events := []relay.Event{{CommittedAt: time.Now()}, {CommittedAt: time.Now().Add(time.Second)}}
		pass(3 * time.Second)
		observer.Waiting(events)
		pass(4 * time.Second)
		want("while Kafka does not answer", "7")
		observer.StateChanged(relay.StateRetrying, errors.New("no answer"))
		pass(time.Minute)
		want("while the relay cannot connect", "67")
		observer.Waiting(events)
		observer.Published(events, time.Second)
		pass(time.Hour)
		want("when nothing has been appended for an hour", "0")

		observer.Waiting(events)
		observer.StateChanged(relay.StateRetrying, errors.New("the outcome of the commit is not known"))
		observer.Skipped(2)
		observer.Confirmed(8)
		want("when it turns out that they were published", "0")

		observer.Waiting(events)
		observer.StateChanged(relay.StateStandby, relay.ErrStandby)
		want("when another relay has taken over", "0")
		observer.Waiting([]relay.Event{{CommittedAt: time.Now().Add(time.Second)}})
		want("when the database's clock is ahead", "0")
	})
}

func TestDeadLettersAreCountedApart(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	observer := o.RelayObserver()
	var events []relay.Event
	for n, cause := range []relay.Cause{relay.EventTooLarge, 0, relay.Unpublishable, relay.Unpublishable} {
		ev := relay.Event{Position: relay.Position{Index: uint32(n)}, Record: record.Record{Topic: "a"}}
		events = append(events, ev)
		if cause != 0 {
			observer.DeadLettered(&ev, &relay.HaltError{Cause: cause, Err: errors.New("refused")})
		}
	}
	observer.Published(events, time.Millisecond)
	observer.Published(events[:1], time.Millisecond) // again, and alive, since its topic takes it now
	wantMetrics(t, o, `
walpost_relay_dead_letters_total{cause="event_too_large"} 1
walpost_relay_dead_letters_total{cause="topic_missing"} 0
walpost_relay_dead_letters_total{cause="unpublishable"} 2
walpost_relay_events_total{topic="a"} 2
`)
}

func TestHaltsAreCountedByTheirCause(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	observer := o.RelayObserver()
	observer.StateChanged(relay.StateRetrying, errors.New("no answer"))
	observer.StateChanged(relay.StateHalted, fmt.Errorf("run: %w", &relay.HaltError{Cause: relay.SlotMoved, Err: errors.New("moved")}))
	wantMetrics(t, o, `
walpost_relay_halts_total{cause="column_missing"} 0
walpost_relay_halts_total{cause="event_too_large"} 0
walpost_relay_halts_total{cause="identity_changed"} 0
walpost_relay_halts_total{cause="publication_missing"} 0
walpost_relay_halts_total{cause="slot_lost"} 0
walpost_relay_halts_total{cause="slot_missing"} 0
walpost_relay_halts_total{cause="slot_moved"} 1
walpost_relay_halts_total{cause="table_unpublished"} 0
walpost_relay_halts_total{cause="topic_missing"} 0
walpost_relay_halts_total{cause="topic_truncated"} 0
walpost_relay_halts_total{cause="unpublishable"} 0
walpost_relay_halts_total{cause="watermark_unusable"} 0
`)
}

func TestTheLabelTopicIsBounded(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	observer := o.RelayObserver()
	for i := range 1000 {
		observer.Published([]relay.Event{{Record: record.Record{Topic: fmt.Sprint("topic", i)}}}, 0)
	}
	got, err := testutil.GatherAndCount(o.Registry, "walpost_relay_events_total")
	if err != nil || got != 201 {
		t.Errorf("1,000 topics make %d series, %v, want 200 and one for the others", got, err)
	}
}

func TestTheMetricsOfAllPartsFitIntoOneRegistryAndAreWellFormed(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	observer, consumer := o.RelayObserver(), o.InboxObserver("group")
	observer.Published([]relay.Event{{Record: record.Record{Topic: "a"}}}, 0)
	useInboxObserver(consumer)
	o.MailObserver().MailAttempted("sent", time.Second)
	problems, err := testutil.GatherAndLint(o.Registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("metric %s: %s", p.Metric, p.Text)
	}
}
