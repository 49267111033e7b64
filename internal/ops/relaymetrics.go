package ops

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/walpost/walpost/relay"
)

// RelayObserver counts and traces what a relay does and shows its state as health. It is safe for concurrent use.
type RelayObserver struct {
	registry *prometheus.Registry
	health   *Health
	tracer   trace.Tracer // nil: nobody collects spans
	hops     *prometheus.HistogramVec

	events       *prometheus.CounterVec
	bytes        prometheus.Counter
	batches      prometheus.Histogram
	delay        prometheus.Histogram
	transactions *prometheus.CounterVec
	skipped      *prometheus.CounterVec
	dead         *prometheus.CounterVec
	published    *prometheus.GaugeVec
	confirmed    *prometheus.GaugeVec
	state        *prometheus.GaugeVec
	halts        *prometheus.CounterVec
	mode         *prometheus.GaugeVec
	topics       bounded

	mu      sync.Mutex // guards what follows
	current relay.State
	cause   error
	oldest  time.Time               // commit time of the oldest event that waits for Kafka; zero: none does
	buried  map[relay.Position]bool // events of the batch at hand that became dead letters
}

var (
	_ relay.Observer            = (*RelayObserver)(nil)
	_ relay.PublishObserver     = (*RelayObserver)(nil)
	_ relay.WaitObserver        = (*RelayObserver)(nil)
	_ relay.SpanObserver        = (*RelayObserver)(nil)
	_ relay.ConfirmObserver     = (*RelayObserver)(nil)
	_ relay.SkipObserver        = (*RelayObserver)(nil)
	_ relay.TransactionObserver = (*RelayObserver)(nil)
	_ relay.DeadLetterObserver  = (*RelayObserver)(nil)
	_ relay.DeliveryObserver    = (*RelayObserver)(nil)
)

// RelayObserver returns the observer of this process's relay. Call it once, after StartTracing.
func (o *Ops) RelayObserver() *RelayObserver {
	r := &RelayObserver{
		registry: o.Registry, health: o.Health, tracer: o.relayTracer(), hops: o.hops(),
		events: relayCounter("events_total", "Events that Kafka has acknowledged.", "topic"),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "walpost_relay_bytes_total", Help: "Bytes of topics, keys, values and headers that Kafka has acknowledged.",
		}),
		batches: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "walpost_relay_batch_events", Help: "Events of each batch that Kafka has acknowledged.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 14), // 1 to 8192
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "walpost_relay_publish_delay_seconds", Help: "Time from the commit of each event in the database to its acknowledgement by Kafka.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 22), // 0.5 ms to 17 min
		}),
		transactions: relayCounter("transactions_total", "Kafka transactions by how they ended; exactly once only.", "outcome"),
		skipped:      relayCounter("skipped_total", "Events that were not published because they had been before.", "reason"),
		dead:         relayCounter("dead_letters_total", "Events that can never be published and went to the dead-letter topic.", "cause"),
		published:    relayGauge("published_lsn_bytes", "Position in the log, as a count of bytes, of the transaction of the latest event that Kafka has acknowledged."),
		confirmed:    relayGauge("confirmed_lsn_bytes", "Position in the log, as a count of bytes, up to which everything is confirmed to the database."),
		state:        relayGauge("state", "1 for the state that the relay is in.", "state"),
		halts:        relayCounter("halts_total", "Ends of the relay by a cause that no retry mends.", "cause"),
		mode:         relayGauge("delivery", "1 for the delivery that is in force.", "mode"),
	}
	r.skipped.WithLabelValues("watermark") // shown before the first one, as are these
	for _, outcome := range []relay.Outcome{relay.Committed, relay.Aborted, relay.UnknownOutcome} {
		r.transactions.WithLabelValues(outcome.String())
	}
	for _, cause := range []relay.Cause{relay.EventTooLarge, relay.TopicMissing, relay.Unpublishable} {
		r.dead.WithLabelValues(cause.String())
	}
	for cause := relay.SlotMissing; cause <= relay.Unpublishable; cause++ {
		r.halts.WithLabelValues(cause.String())
	}
	o.Registry.MustRegister(r.events, r.bytes, r.batches, r.delay, r.transactions, r.skipped, r.dead, r.published, r.confirmed, r.state, r.halts, r.mode,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "walpost_relay_lag_seconds", Help: "Age of the oldest event that was read and waits for Kafka; 0 when none does.",
		}, r.lag))
	r.StateChanged(relay.StateStarting, nil)
	o.Health.Register("relay", r.check)
	return r
}

func relayCounter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "walpost", Subsystem: "relay", Name: name, Help: help}, labels)
}

// relayGauge is shown once it has a value.
func relayGauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "walpost", Subsystem: "relay", Name: name, Help: help}, labels)
}

// InFlight adds a gauge of the bytes of events that were read and not yet published. bytes is called at each scrape, by any goroutine.
func (r *RelayObserver) InFlight(bytes func() int64) {
	r.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "walpost_relay_inflight_bytes", Help: "Bytes of events that were read and not yet published.",
	}, func() float64 { return float64(bytes()) }))
}

// check is the relay's health: one that stands by for another is ready.
func (r *RelayObserver) check(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch r.current {
	case relay.StateStreaming, relay.StateStandby:
		return nil
	}
	if r.cause == nil {
		return errors.New(r.current.String())
	}
	return fmt.Errorf("%s: %w", r.current, r.cause)
}

// StateChanged implements relay.Observer.
func (r *RelayObserver) StateChanged(s relay.State, cause error) {
	r.mu.Lock()
	before := r.current
	r.current, r.cause = s, cause
	if s == relay.StateStandby { // what was waiting is another relay's business now
		r.oldest = time.Time{}
	}
	r.mu.Unlock()
	r.state.WithLabelValues(s.String()).Set(1)
	if before != s {
		r.state.DeleteLabelValues(before.String())
	}
	var halt *relay.HaltError
	if errors.As(cause, &halt) {
		r.halts.WithLabelValues(halt.Cause.String()).Inc()
	}
	r.health.SetState("relay", s.String())
}

// Waiting implements relay.WaitObserver.
func (r *RelayObserver) Waiting(events []relay.Event) { r.waits(events[0].CommittedAt) }

func (r *RelayObserver) waits(since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.oldest = since
}

func (r *RelayObserver) lag() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.oldest.IsZero() {
		return 0
	}
	return max(time.Since(r.oldest), 0).Seconds() // two clocks
}

// Published implements relay.PublishObserver.
func (r *RelayObserver) Published(events []relay.Event, took time.Duration) {
	buried := r.settled()
	now := time.Now()
	began := now.Add(-took)
	decoded, published := r.hops.WithLabelValues("commit_decode"), r.hops.WithLabelValues("decode_publish")
	for i := range events {
		e := &events[i]
		if buried[e.Position] {
			continue
		}
		r.events.WithLabelValues(r.topics.value(e.Record.Topic)).Inc()
		r.bytes.Add(float64(e.Record.Size()))
		// Two clocks: a negative difference is one of them being wrong by a little.
		decoded.Observe(max(began.Sub(e.CommittedAt), 0).Seconds())
		published.Observe(took.Seconds())
		r.delay.Observe(max(now.Sub(e.CommittedAt), 0).Seconds())
	}
	r.batches.Observe(float64(len(events)))
	r.published.WithLabelValues().Set(float64(events[len(events)-1].Position.Commit))
}

// settled says that nothing waits any more, and which events of the batch became dead letters.
func (r *RelayObserver) settled() (buried map[relay.Position]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	buried, r.buried, r.oldest = r.buried, nil, time.Time{}
	return buried
}

// DeadLettered implements relay.DeadLetterObserver.
func (r *RelayObserver) DeadLettered(ev *relay.Event, why *relay.HaltError) {
	r.dead.WithLabelValues(why.Cause.String()).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buried == nil {
		r.buried = make(map[relay.Position]bool)
	}
	r.buried[ev.Position] = true
}

// Confirmed implements relay.ConfirmObserver.
func (r *RelayObserver) Confirmed(end relay.LSN) {
	r.waits(time.Time{}) // or events that an error left waiting, and that turned out to be published, would be waited for
	r.confirmed.WithLabelValues().Set(float64(end))
}

// TransactionEnded implements relay.TransactionObserver.
func (r *RelayObserver) TransactionEnded(o relay.Outcome) {
	r.transactions.WithLabelValues(o.String()).Inc()
}

// Skipped implements relay.SkipObserver.
func (r *RelayObserver) Skipped(n int) { r.skipped.WithLabelValues("watermark").Add(float64(n)) }

// Delivering implements relay.DeliveryObserver.
func (r *RelayObserver) Delivering(d relay.Delivery) {
	r.mode.Reset()
	r.mode.WithLabelValues(d.String()).Set(1)
}

// hops is the histogram that every part of an event's way has in common; in `dev` several parts share one registry.
func (o *Ops) hops() *prometheus.HistogramVec {
	hops := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "walpost_hop_duration_seconds", Help: "Time that events took for one hop of their way.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18), // 0.5 ms to 65 s
	}, []string{"hop"})
	if err := o.Registry.Register(hops); err != nil {
		var registered prometheus.AlreadyRegisteredError
		if !errors.As(err, &registered) {
			panic(err) // the name is used for something else
		}
		return registered.ExistingCollector.(*prometheus.HistogramVec)
	}
	return hops
}
