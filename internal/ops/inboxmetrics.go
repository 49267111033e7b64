package ops

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/walpost/walpost/inbox"
)

// InboxObserver counts and traces what a consumer does. It is safe for concurrent use.
type InboxObserver struct {
	group  string
	tracer trace.Tracer
	health *Health
	hops   *prometheus.HistogramVec

	messages       *prometheus.CounterVec
	handler        *prometheus.HistogramVec
	lag            *lagMetrics
	paused         *pauses
	commitFailures prometheus.Counter
	rewinds        *prometheus.CounterVec
	rebalances     *prometheus.CounterVec
	rebalancing    *prometheus.HistogramVec

	reports reportLoop
}

// consumerSilence is long against the second between two reports of lag: a consumer that is silent for this time hangs.
const consumerSilence = time.Minute

var (
	_ inbox.ResultObserver  = (*InboxObserver)(nil)
	_ inbox.HandlerObserver = (*InboxObserver)(nil)
	_ inbox.SpanObserver    = (*InboxObserver)(nil)
	_ inbox.LagObserver     = (*InboxObserver)(nil)
	_ inbox.CommitObserver  = (*InboxObserver)(nil)
	_ inbox.GroupObserver   = (*InboxObserver)(nil)
	_ inbox.PauseObserver   = (*InboxObserver)(nil)
	_ inbox.RewindObserver  = (*InboxObserver)(nil)
)

// InboxObserver returns the observer of this process's consumer of the group. Call it once.
func (o *Ops) InboxObserver(group string) *InboxObserver {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "walpost", Subsystem: "consumer", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "walpost", Subsystem: "consumer", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 16), // 1 ms to 33 s
		}, labels)
	}
	i := &InboxObserver{
		group: group, tracer: o.Traces.Tracer("github.com/walpost/walpost/inbox"), health: o.Health, hops: o.hops(),
		messages:       counter("messages_total", "Runs of messages by how they ended.", "topic", "result"),
		handler:        histogram("handler_seconds", "Time that a handler took for one run of a message.", "topic"),
		lag:            &lagMetrics{},
		paused:         newPauses(),
		commitFailures: prometheus.NewCounter(prometheus.CounterOpts{Name: "walpost_consumer_commit_failures_total", Help: "Commits of offsets that PostgreSQL or Kafka refused."}),
		rewinds:        counter("position_rewinds_total", "Partitions that were read again because Kafka's offset was beyond the position in the database.", "topic"),
		rebalances:     counter("rebalances_total", "Changes of the assignment.", "kind"),
		rebalancing:    histogram("rebalance_seconds", "Time that letting go of partitions took.", "kind"),
	}
	o.Registry.MustRegister(i.messages, i.handler, i.lag, i.paused.gauge, i.commitFailures, i.rewinds, i.rebalances, i.rebalancing)
	return i
}

// MessageResult implements inbox.ResultObserver.
func (i *InboxObserver) MessageResult(topic, _ string, r inbox.Result) {
	i.messages.WithLabelValues(topic, string(r)).Inc()
}

// Handled implements inbox.HandlerObserver.
func (i *InboxObserver) Handled(m *inbox.Message, took time.Duration, _ error) {
	i.handler.WithLabelValues(m.Topic).Observe(took.Seconds())
	i.hops.WithLabelValues("fetch_apply").Observe(took.Seconds())
	if m.Attempt == 1 {
		i.hops.WithLabelValues("publish_fetch").Observe(max(time.Since(m.Time)-took, 0).Seconds())
	}
}

// StartSpan implements inbox.SpanObserver: the span that processes a message is a child of the one that appended its event.
// https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
func (i *InboxObserver) StartSpan(ctx context.Context, m *inbox.Message) (context.Context, func(error)) {
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": m.TraceParent})
	ctx, span := i.tracer.Start(ctx, "process "+m.Topic, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		semconv.MessagingSystemKafka,
		semconv.MessagingOperationTypeProcess,
		semconv.MessagingOperationName("process"),
		semconv.MessagingDestinationName(m.Topic),
		semconv.MessagingDestinationPartitionID(strconv.Itoa(int(m.Partition))),
		semconv.MessagingKafkaOffset(int(m.Offset)),
		semconv.MessagingConsumerGroupName(i.group),
		semconv.MessagingMessageID(m.ID),
		attribute.Int("messaging.message.body.size", len(m.Payload)),
	))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "the handler failed") // its text may quote the payload
		}
		span.End()
	}
}

// Lag implements inbox.LagObserver.
func (i *InboxObserver) Lag(partitions []inbox.Lag) {
	i.reports.report(i.health, "consumer")
	i.lag.set(partitions)
}

// Stop says that the consumer has ended and reports its lag no more.
func (i *InboxObserver) Stop() {
	i.reports.end()
	i.lag.set(nil)
}

// Committed implements inbox.CommitObserver.
func (i *InboxObserver) Committed(_ time.Duration, err error) {
	if err != nil {
		i.commitFailures.Inc()
	}
}

// Rebalanced implements inbox.GroupObserver.
func (i *InboxObserver) Rebalanced(kind inbox.Rebalance, _, _ int, took time.Duration) {
	i.rebalances.WithLabelValues(string(kind)).Inc()
	i.rebalancing.WithLabelValues(string(kind)).Observe(took.Seconds())
}

// Rewound implements inbox.RewindObserver.
func (i *InboxObserver) Rewound(topic string, _ int32, _, _ int64) {
	i.rewinds.WithLabelValues(topic).Inc()
}

// Paused implements inbox.PauseObserver.
func (i *InboxObserver) Paused(topic string, partition int32, reasons []string) {
	i.paused.set(topic, partition, reasons)
}
