package ops

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpost/walpost/inbox"
)

// lagMetrics shows the consumer's last report whole: a scrape never sees half of an assignment, nor a partition that went to another consumer.
type lagMetrics struct {
	mu         sync.Mutex // guards partitions
	partitions []inbox.Lag
}

func (m *lagMetrics) set(partitions []inbox.Lag) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.partitions = append(m.partitions[:0], partitions...)
}

// lagDescs are the metrics of one partition, each with how to read it.
var lagDescs = []struct {
	desc  *prometheus.Desc
	value func(inbox.Lag) float64
}{
	{lagDesc("lag_records", "Records from the lowest unfinished offset to the end of the partition."), func(l inbox.Lag) float64 { return float64(l.Records) }},
	{lagDesc("oldest_unprocessed_seconds", "Age of the record at the lowest unfinished offset; 0 when there is none."), func(l inbox.Lag) float64 { return l.Oldest.Seconds() }},
	{lagDesc("frontier_gap", "Offsets between the lowest unfinished one and the highest finished one."), func(l inbox.Lag) float64 { return float64(l.Gap) }},
	{lagDesc("window_fill", "How full the window of the partition is, from 0 to 1."), func(l inbox.Lag) float64 { return l.Fill }},
}

func lagDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("walpost_consumer_"+name, help, []string{"topic", "partition"}, nil)
}

// Describe implements prometheus.Collector.
func (m *lagMetrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range lagDescs {
		descs <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (m *lagMetrics) Collect(metrics chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.partitions {
		for _, d := range lagDescs {
			metrics <- prometheus.MustNewConstMetric(d.desc, prometheus.GaugeValue, d.value(p), p.Topic, strconv.Itoa(int(p.Partition)))
		}
	}
}
