package ops

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// healthMetrics shows the report as walpost_health{entity,state}: 1 for the state in force.
type healthMetrics struct{ health *Health }

var (
	healthDesc       = prometheus.NewDesc("walpost_health", "1 for the state that a dependency is in.", []string{"entity", "state"}, nil)
	kafkaUnavailable = prometheus.NewDesc("walpost_kafka_unavailable_seconds", "Time for which no broker has answered; 0 when one does.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m healthMetrics) Describe(descs chan<- *prometheus.Desc) {
	descs <- healthDesc
	descs <- kafkaUnavailable
}

// Collect implements prometheus.Collector. The interface has no context; the checks bound themselves.
func (m healthMetrics) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*checkTimeout) //nolint:forbidigo // prometheus.Collector has no context to take
	defer cancel()
	for _, c := range m.health.Report(ctx).Checks {
		metrics <- prometheus.MustNewConstMetric(healthDesc, prometheus.GaugeValue, 1, c.Name, string(c.Status))
		if c.Name == "kafka" {
			metrics <- prometheus.MustNewConstMetric(kafkaUnavailable, prometheus.GaugeValue, m.health.failingFor(c.Name).Seconds())
		}
	}
}
