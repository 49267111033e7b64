package ops_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/record"
)

func useInboxObserver(i *ops.InboxObserver) {
	i.MessageResult("a", "type of anybody's choice", inbox.Done)
	i.Handled(&inbox.Message{Topic: "a", Attempt: 1, Time: time.Now().Add(time.Hour)}, time.Millisecond, nil)
	i.Lag([]inbox.Lag{{Topic: "a", Partition: 2, Records: 7, Oldest: 3 * time.Second, Gap: 5, Fill: 0.5}})
	i.Committed(time.Millisecond, errors.New("refused"))
	i.Rebalanced(inbox.Assigned, 3, 3, time.Millisecond)
	i.Paused("a", 0, []string{"window"})
}

func TestWhatTheConsumerDoesIsCounted(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	observer := o.InboxObserver("group")
	useInboxObserver(observer)
	observer.Lag([]inbox.Lag{{Topic: "a", Partition: 1, Records: 1}}) // partition 2 went to another consumer
	observer.Paused("a", 1, []string{"window", "database"})
	observer.Paused("a", 1, nil)
	observer.Rewound("a", 1, 8, 3)
	want := `# HELP walpost_consumer_commit_failures_total Commits of offsets that PostgreSQL or Kafka refused.
# TYPE walpost_consumer_commit_failures_total counter
walpost_consumer_commit_failures_total 1
# HELP walpost_consumer_lag_records Records from the lowest unfinished offset to the end of the partition.
# TYPE walpost_consumer_lag_records gauge
walpost_consumer_lag_records{partition="1",topic="a"} 1
# HELP walpost_consumer_messages_total Runs of messages by how they ended.
# TYPE walpost_consumer_messages_total counter
walpost_consumer_messages_total{result="done",topic="a"} 1
# HELP walpost_consumer_paused_partitions Partitions whose reading is stopped.
# TYPE walpost_consumer_paused_partitions gauge
walpost_consumer_paused_partitions{reason="database"} 0
walpost_consumer_paused_partitions{reason="window"} 1
# HELP walpost_consumer_position_rewinds_total Partitions that were read again because Kafka's offset was beyond the position in the database.
# TYPE walpost_consumer_position_rewinds_total counter
walpost_consumer_position_rewinds_total{topic="a"} 1
`
	if err := testutil.GatherAndCompare(o.Registry, strings.NewReader(want), "walpost_consumer_commit_failures_total",
		"walpost_consumer_lag_records", "walpost_consumer_messages_total", "walpost_consumer_paused_partitions",
		"walpost_consumer_position_rewinds_total"); err != nil {
		t.Error(err)
	}
}

func TestAConsumerThatReportsNoMoreIsNotAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOps(t)
		observer := o.InboxObserver("group")
		wait := func(d time.Duration) {
			time.Sleep(d) //nolint:forbidigo // virtual time
		}
		wait(time.Hour) // it waits for the database before its first report
		if err := o.Health.Live(); err != nil {
			t.Errorf("Live() before the first report = %v, want nil", err)
		}
		observer.Lag(nil)
		wait(59 * time.Second)
		observer.Lag(nil)
		wait(59 * time.Second)
		if err := o.Health.Live(); err != nil {
			t.Errorf("Live() = %v, want nil", err)
		}
		wait(2 * time.Second)
		if err := o.Health.Live(); err == nil {
			t.Error("Live() after a minute of silence = nil, want an error")
		}
		observer.Stop()
		if err := o.Health.Live(); err != nil {
			t.Errorf("Live() after the end = %v, want nil", err)
		}
	})
}

func TestASpanOfProcessingContinuesTheTraceOfTheAppend(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	o := newOps(t)
	o.Traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	appended, span := o.Traces.Tracer("test").Start(t.Context(), "create")
	message := &inbox.Message{
		Message: record.Message{ID: "event", TraceParent: ops.TraceParent(appended), Payload: []byte("secret of ada")},
		Topic:   "users", Partition: 2, Offset: 9,
	}
	ctx, end := o.InboxObserver("group").StartSpan(t.Context(), message)
	if got := trace.SpanContextFromContext(ctx).TraceID(); got != span.SpanContext().TraceID() {
		t.Errorf("trace of the handler = %s, want the append's %s", got, span.SpanContext().TraceID())
	}
	end(errors.New("secret of ada is invalid"))

	ended := recorder.Ended()
	if len(ended) != 1 {
		t.Fatalf("%d spans ended, want 1", len(ended))
	}
	got := map[string]string{"name": ended[0].Name(), "kind": ended[0].SpanKind().String(), "status": ended[0].Status().Description}
	for _, a := range ended[0].Attributes() {
		got[string(a.Key)] = a.Value.String()
	}
	want := map[string]string{
		"name": "process users", "kind": "consumer", "status": "the handler failed",
		"messaging.system": "kafka", "messaging.operation.type": "process", "messaging.operation.name": "process",
		"messaging.destination.name": "users", "messaging.destination.partition.id": "2", "messaging.kafka.offset": "9",
		"messaging.consumer.group.name": "group", "messaging.message.id": "event", "messaging.message.body.size": "13",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("span (-want +got):\n%s", diff)
	}
}
