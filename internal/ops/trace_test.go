package ops_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/walpost/walpost/internal/ops"
)

func TestTraceParentIsTheCurrentSpans(t *testing.T) {
	t.Parallel()
	if got := ops.TraceParent(t.Context()); got != "" {
		t.Errorf("TraceParent without a span = %q, want none", got)
	}
	ctx, span := sdktrace.NewTracerProvider().Tracer("test").Start(t.Context(), "create")
	defer span.End()
	want := "00-" + span.SpanContext().TraceID().String() + "-" + span.SpanContext().SpanID().String() + "-01"
	if got := ops.TraceParent(ctx); got != want {
		t.Errorf("TraceParent = %q, want %q", got, want)
	}
}

// Not parallel: the exporter's settings are in the environment.
func TestSpansAreSentWhereTheEnvironmentSays(t *testing.T) {
	paths := make(chan string, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)

	o := newOps(t)
	stop, err := o.StartTracing(t.Context(), "walpost-test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, span := o.Traces.Tracer("test").Start(t.Context(), "create")
	if got := ops.TraceParent(ctx); !regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`).MatchString(got) {
		t.Errorf("TraceParent = %q, want a sampled one", got)
	}
	span.End()
	if err := stop(t.Context()); err != nil {
		t.Fatalf("stop: %v", err)
	}
	select {
	case got := <-paths:
		if got != "/v1/traces" {
			t.Errorf("spans were sent to %s, want /v1/traces", got)
		}
	default:
		t.Error("no span was sent before stop returned")
	}
}
