package ops

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpost/walpost/inbox"
)

// ForwardObserver counts what a forwarder does. It is safe for concurrent use.
type ForwardObserver struct {
	health *Health

	in, out, dead prometheus.Counter
	transactions  *prometheus.CounterVec
	took          prometheus.Histogram
	rebalances    *prometheus.CounterVec
	lag           *forwardLag

	reports reportLoop
}

var (
	_ inbox.TransactionObserver = (*ForwardObserver)(nil)
	_ inbox.LagObserver         = (*ForwardObserver)(nil)
	_ inbox.GroupObserver       = (*ForwardObserver)(nil)
)

// ForwardObserver returns the observer of this process's forwarder. Call it once.
func (o *Ops) ForwardObserver() *ForwardObserver {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "walpost", Subsystem: "forwarder", Name: name, Help: help})
	}
	f := &ForwardObserver{
		health: o.Health,
		in:     counter("rows_total", "Rows whose transaction was committed."),
		out:    counter("events_total", "Events published in committed transactions."),
		dead:   counter("dead_letters_total", "Rows that went to the dead-letter topic."),
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walpost_forwarder_transactions_total", Help: "Transactions by how they ended.",
		}, []string{"result"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "walpost_forwarder_transaction_seconds", Help: "Time from reading a batch to the end of its transaction.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 15), // 1 ms to 16 s
		}),
		rebalances: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walpost_forwarder_rebalances_total", Help: "Changes of the assignment.",
		}, []string{"kind"}),
		lag: &forwardLag{},
	}
	for _, result := range []string{"committed", "aborted"} {
		f.transactions.WithLabelValues(result) // shown before the first one
	}
	o.Registry.MustRegister(f.in, f.out, f.dead, f.transactions, f.took, f.rebalances, f.lag)
	return f
}

// Watch makes the process ready only while the forwarder works.
func (f *ForwardObserver) Watch(t *inbox.Transformer) {
	f.health.Register("forwarder", func(context.Context) error { return t.Ready() })
}

// TransactionEnded implements inbox.TransactionObserver.
func (f *ForwardObserver) TransactionEnded(tx inbox.Transaction) {
	f.took.Observe(tx.Took.Seconds())
	if tx.Err != nil {
		f.transactions.WithLabelValues("aborted").Inc()
		return
	}
	f.transactions.WithLabelValues("committed").Inc()
	f.in.Add(float64(tx.In))
	f.out.Add(float64(tx.Out))
	f.dead.Add(float64(tx.Dead))
}

// Rebalanced implements inbox.GroupObserver.
func (f *ForwardObserver) Rebalanced(kind inbox.Rebalance, _, _ int, _ time.Duration) {
	f.rebalances.WithLabelValues(string(kind)).Inc()
}

// Lag implements inbox.LagObserver.
func (f *ForwardObserver) Lag(partitions []inbox.Lag) {
	f.reports.report(f.health, "forwarder")
	f.lag.set(partitions)
}

// Stop says that the forwarder has ended and reports its lag no more.
func (f *ForwardObserver) Stop() {
	f.reports.end()
	f.lag.set(nil)
}

// forwardLag shows the last report whole, as lagMetrics does for the consumer.
type forwardLag struct{ lagMetrics }

var forwardLagDesc = prometheus.NewDesc("walpost_forwarder_lag_records", "Rows from the committed offset to the end of the partition.",
	[]string{"topic", "partition"}, nil)

// Describe implements prometheus.Collector.
func (m *forwardLag) Describe(descs chan<- *prometheus.Desc) { descs <- forwardLagDesc }

// Collect implements prometheus.Collector.
func (m *forwardLag) Collect(metrics chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.partitions {
		metrics <- prometheus.MustNewConstMetric(forwardLagDesc, prometheus.GaugeValue, float64(p.Records), p.Topic, strconv.Itoa(int(p.Partition)))
	}
}
