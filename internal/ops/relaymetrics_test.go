package ops_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

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
	event := relay.Event{CommittedAt: time.Now().Add(time.Hour), Record: record.Record{Topic: "a", Key: []byte("key"), Value: []byte("value")}}
	observer.Published([]relay.Event{event, event}, 10*time.Millisecond)
	observer.Skipped(3)
	want := `# HELP walpost_relay_bytes_total Bytes of topics, keys, values and headers that Kafka has acknowledged.
# TYPE walpost_relay_bytes_total counter
walpost_relay_bytes_total 18
# HELP walpost_relay_events_total Events that Kafka has acknowledged.
# TYPE walpost_relay_events_total counter
walpost_relay_events_total{topic="a"} 2
# HELP walpost_relay_skipped_total Events that were not published because they had been before.
# TYPE walpost_relay_skipped_total counter
walpost_relay_skipped_total{reason="watermark"} 3
`
	if err := testutil.GatherAndCompare(o.Registry, strings.NewReader(want), "walpost_relay_bytes_total", "walpost_relay_events_total", "walpost_relay_skipped_total"); err != nil {
		t.Error(err)
	}
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
