package ops

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// StartTracing sends spans of this process, named as the service, by OTLP over HTTP from now on. The exporter takes its endpoint, headers and
// certificates from the OTEL_* variables of the environment. The function returned sends what is left and ends it.
func (o *Ops) StartTracing(ctx context.Context, service string) (func(context.Context) error, error) {
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("trace exporter: %w: look at the OTEL_EXPORTER_OTLP_ variables", err)
	}
	described, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceVersion(ReadBuild().Version)),
		resource.WithFromEnv(), // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win
		resource.WithTelemetrySDK(),
	)
	if err != nil {
		return nil, fmt.Errorf("trace resource: %w: look at OTEL_RESOURCE_ATTRIBUTES", err)
	}
	// The SDK has one handler for errors of all exporters; without ours they would go past the log.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { o.Log.Warn("traces are not delivered", "error", err) }))
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(described))
	o.Traces = provider
	return provider.Shutdown, nil
}

// TraceParent is the current span's W3C traceparent, "" when there is no span. It is the hook of outbox.Appender.
// https://www.w3.org/TR/trace-context/#traceparent-header
func TraceParent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}
