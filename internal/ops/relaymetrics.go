package ops

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpost/walpost/relay"
)

// RelayObserver counts what a relay does and shows its state as health. It is safe for concurrent use.
type RelayObserver struct {
	registry *prometheus.Registry
	health   *Health
	hops     *prometheus.HistogramVec

	events  *prometheus.CounterVec
	bytes   prometheus.Counter
	skipped *prometheus.CounterVec
	state   *prometheus.GaugeVec
	mode    *prometheus.GaugeVec
	topics  bounded

	mu      sync.Mutex // guards what follows
	current relay.State
	cause   error
}

var (
	_ relay.Observer        = (*RelayObserver)(nil)
	_ relay.PublishObserver = (*RelayObserver)(nil)
	_ relay.SkipObserver    = (*RelayObserver)(nil)

	_ relay.DeliveryObserver = (*RelayObserver)(nil)
)

// RelayObserver returns the observer of this process's relay. Call it once.
func (o *Ops) RelayObserver() *RelayObserver {
	r := &RelayObserver{
		registry: o.Registry,
		health:   o.Health,
		hops:     o.hops(),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walpost_relay_events_total", Help: "Events that Kafka has acknowledged.",
		}, []string{"topic"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "walpost_relay_bytes_total", Help: "Bytes of topics, keys, values and headers that Kafka has acknowledged.",
		}),
		skipped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walpost_relay_skipped_total", Help: "Events that were not published because they had been before.",
		}, []string{"reason"}),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "walpost_relay_state", Help: "1 for the state that the relay is in.",
		}, []string{"state"}),
		mode: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "walpost_relay_delivery", Help: "1 for the delivery that is in force.",
		}, []string{"mode"}),
	}
	r.skipped.WithLabelValues("watermark") // shown before the first one
	o.Registry.MustRegister(r.events, r.bytes, r.skipped, r.state, r.mode)
	r.StateChanged(relay.StateStarting, nil)
	o.Health.Register("relay", r.check)
	return r
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
	r.mu.Unlock()
	r.state.WithLabelValues(s.String()).Set(1)
	if before != s {
		r.state.DeleteLabelValues(before.String())
	}
	r.health.SetState("relay", s.String())
}

// Published implements relay.PublishObserver.
func (r *RelayObserver) Published(events []relay.Event, took time.Duration) {
	began := time.Now().Add(-took)
	decoded, published := r.hops.WithLabelValues("commit_decode"), r.hops.WithLabelValues("decode_publish")
	for i := range events {
		e := &events[i]
		r.events.WithLabelValues(r.topics.value(e.Record.Topic)).Inc()
		r.bytes.Add(float64(e.Record.Size()))
		// Two clocks: a negative difference is one of them being wrong by a little.
		decoded.Observe(max(began.Sub(e.CommittedAt), 0).Seconds())
		published.Observe(took.Seconds())
	}
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
