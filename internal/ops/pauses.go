package ops

import (
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// pauses counts the partitions that are not being read, by reason. It is safe for concurrent use.
type pauses struct {
	gauge *prometheus.GaugeVec

	mu      sync.Mutex // guards reasons
	reasons map[topicPartition][]string
}

type topicPartition struct {
	topic     string
	partition int32
}

func newPauses() *pauses {
	return &pauses{
		gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "walpost_consumer_paused_partitions", Help: "Partitions whose reading is stopped.",
		}, []string{"reason"}),
		reasons: make(map[topicPartition][]string),
	}
}

// set replaces the reasons why a partition is not read; none: it is read.
func (p *pauses) set(topic string, partition int32, reasons []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := topicPartition{topic, partition}
	for _, reason := range p.reasons[key] {
		p.gauge.WithLabelValues(reason).Dec()
	}
	for _, reason := range reasons {
		p.gauge.WithLabelValues(reason).Inc()
	}
	p.reasons[key] = slices.Clone(reasons)
}
