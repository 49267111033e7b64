package ops

import (
	"bytes"
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/walpost/walpost/relay"
)

// maxLinks bounds the links of a span. It is also what the SDK keeps unless OTEL_SPAN_LINK_COUNT_LIMIT says otherwise.
const maxLinks = 128

// relayTracer is what the relay's spans are made with, nil when nobody collects them.
func (o *Ops) relayTracer() trace.Tracer {
	if _, off := o.Traces.(noop.TracerProvider); off {
		return nil
	}
	return o.Traces.Tracer("github.com/walpost/walpost/relay")
}

func noSpan(error) {}

// StartSpan implements relay.SpanObserver. A batch holds events of many traces, so its span begins one of its own and links to those that appended the
// events. Each event keeps the traceparent that it has: consumers continue the trace of the append.
// https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
func (r *RelayObserver) StartSpan(ctx context.Context, events []relay.Event) (context.Context, func(error)) {
	if r.tracer == nil {
		return ctx, noSpan
	}
	name := "send"
	attributes := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		semconv.MessagingSystemKafka,
		semconv.MessagingOperationTypeSend,
		semconv.MessagingOperationName("send"),
		semconv.MessagingBatchMessageCount(len(events)),
	)}
	if topic, one := topicOf(events); one {
		name += " " + topic
		attributes = append(attributes, trace.WithAttributes(semconv.MessagingDestinationName(topic)))
	}
	spanning, span := r.tracer.Start(ctx, name, attributes...)
	if span.IsRecording() {
		link(ctx, span, events)
	}
	return spanning, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "the batch was not published") // the error's text may quote an event
		}
		span.End()
	}
}

// topicOf is the topic of all events, if they have one in common that may be shown.
func topicOf(events []relay.Event) (topic string, one bool) {
	topic = events[0].Record.Topic
	for i := range events {
		if events[i].Record.Topic != topic {
			return "", false
		}
	}
	return topic, topic != ""
}

// link links the span to the first maxLinks traces of the events.
func link(ctx context.Context, span trace.Span, events []relay.Event) {
	var last []byte
	links := 0
	for i := range events {
		parent := events[i].TraceParent()
		if len(parent) == 0 || bytes.Equal(parent, last) { // what one transaction appended has one traceparent
			continue
		}
		last = parent
		at := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": string(parent)})
		if appended := trace.SpanContextFromContext(at); appended.IsValid() && appended.IsRemote() {
			span.AddLink(trace.Link{SpanContext: appended})
			if links++; links == maxLinks {
				return
			}
		}
	}
}
