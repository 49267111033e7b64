package ops_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// traced is an event that was appended in a span.
func traced(topic, parent string) relay.Event {
	headers := []record.Header{{Key: record.HeaderID, Value: []byte("id")}, {Key: record.HeaderTraceParent, Value: []byte(parent)}}
	return relay.Event{Record: record.Record{Topic: topic, Value: []byte("secret of ada"), Headers: headers}}
}

// parentOf is the traceparent of span n.
func parentOf(n int) string { return fmt.Sprintf("00-%032x-%016x-01", n, n) }

// recorded is an Ops whose spans are kept.
func recorded(t *testing.T, opts ...sdktrace.TracerProviderOption) (*ops.Ops, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	o := newOps(t)
	o.Traces = sdktrace.NewTracerProvider(append(opts, sdktrace.WithSyncer(exporter))...)
	return o, exporter
}

func TestTheSpanOfABatchLinksToTheAppends(t *testing.T) {
	t.Parallel()
	const topic = "things"
	for name, tc := range map[string]struct {
		events    []relay.Event
		err       error
		want      map[string]string
		wantLinks []int
	}{
		"of one topic": {
			events: []relay.Event{
				traced(topic, parentOf(1)), traced(topic, parentOf(1)), traced(topic, ""), traced(topic, "nonsense"), {Record: record.Record{Topic: topic}}, traced(topic, parentOf(2)),
			},
			want:      map[string]string{"name": "send things", "messaging.destination.name": topic, "messaging.batch.message_count": "6"},
			wantLinks: []int{1, 2},
		},
		"of several topics": {
			events:    []relay.Event{traced(topic, parentOf(1)), traced("others", parentOf(2))},
			want:      map[string]string{"name": "send", "messaging.batch.message_count": "2"},
			wantLinks: []int{1, 2},
		},
		"that failed": {
			events:    []relay.Event{traced(topic, parentOf(1))},
			err:       errors.New("secret of ada is too large"),
			want:      map[string]string{"name": "send things", "messaging.destination.name": topic, "messaging.batch.message_count": "1", "status": "the batch was not published"},
			wantLinks: []int{1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, exporter := recorded(t)
			ctx, _ := o.Traces.Tracer("test").Start(t.Context(), "around") // not to be linked to
			_, end := o.RelayObserver().StartSpan(ctx, tc.events)
			end(tc.err)
			spans := exporter.GetSpans()
			if len(spans) != 1 {
				t.Fatalf("%d spans ended, want 1", len(spans))
			}
			got := map[string]string{"name": spans[0].Name, "kind": spans[0].SpanKind.String()}
			if text := spans[0].Status.Description; text != "" {
				got["status"] = text
			}
			for _, a := range spans[0].Attributes {
				got[string(a.Key)] = a.Value.String()
			}
			tc.want["kind"], tc.want["messaging.system"] = "client", "kafka"
			tc.want["messaging.operation.type"], tc.want["messaging.operation.name"] = "send", "send"
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("span (-want +got):\n%s", diff)
			}
			var links, wantLinks []string
			for _, l := range spans[0].Links {
				links = append(links, fmt.Sprintf("00-%s-%s-01", l.SpanContext.TraceID(), l.SpanContext.SpanID()))
			}
			for _, n := range tc.wantLinks {
				wantLinks = append(wantLinks, parentOf(n))
			}
			if diff := cmp.Diff(wantLinks, links); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTheLinksOfASpanAreBounded(t *testing.T) {
	t.Parallel()
	limits := sdktrace.NewSpanLimits()
	limits.LinkCountLimit = -1
	o, exporter := recorded(t, sdktrace.WithRawSpanLimits(limits))
	var events []relay.Event
	for n := range 1000 {
		events = append(events, traced("things", parentOf(n+1)))
	}
	_, end := o.RelayObserver().StartSpan(t.Context(), events)
	end(nil)
	if got := len(exporter.GetSpans()[0].Links); got != 128 {
		t.Errorf("span of 1,000 events has %d links, want 128", got)
	}
}

// Not parallel: it counts what the whole process allocates.
func TestASpanThatNobodyCollectsCostsNothing(t *testing.T) {
	observer := newOps(t).RelayObserver()
	events := []relay.Event{traced("things", parentOf(1))}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		_, end := observer.StartSpan(ctx, events)
		end(nil)
	}); n != 0 {
		t.Errorf("a span allocates %v times without tracing, want 0", n)
	}
	o, exporter := recorded(t, sdktrace.WithSampler(sdktrace.NeverSample()))
	_, end := o.RelayObserver().StartSpan(ctx, events)
	end(nil)
	if n := len(exporter.GetSpans()); n != 0 {
		t.Errorf("%d spans were exported though none is sampled", n)
	}
}

func BenchmarkSpanOfABatch(b *testing.B) {
	o := newOps(b)
	o.Traces = sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewNoopExporter()))
	observer := o.RelayObserver()
	var events []relay.Event
	for n := range 1000 {
		events = append(events, traced("things", parentOf(n+1)))
	}
	b.ReportAllocs()
	for b.Loop() {
		_, end := observer.StartSpan(b.Context(), events)
		end(nil)
	}
}
