package ops

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// slotAge is how old what is shown of the slot may be: reading it costs a connection.
const slotAge = 5 * time.Second

// Slot is what the server says of the relay's replication slot.
type Slot struct {
	WALStatus        string // reserved, extended, unreserved or lost
	RetainedBytes    int64
	UnconfirmedBytes int64
	SafeBytes        *int64         // nil: no limit is set
	Inactive         *time.Duration // since nobody reads, zero while somebody does; nil: not known, before PostgreSQL 17
}

// slotMetrics shows the slot, read at most every slotAge, as metrics and as the health of "slot".
type slotMetrics struct {
	read func(context.Context) (Slot, error)
	turn chan struct{} // held by the one goroutine that reads

	mu     sync.Mutex // guards what follows
	last   Slot
	err    error
	lastAt time.Time
}

// WatchSlot shows the slot that read returns. Call it once.
func (o *Ops) WatchSlot(read func(context.Context) (Slot, error)) {
	m := &slotMetrics{read: read, turn: make(chan struct{}, 1)}
	o.Registry.MustRegister(m)
	o.Health.Register("slot", m.check)
}

func (m *slotMetrics) check(ctx context.Context) error {
	s, err := m.get(ctx)
	switch {
	case err != nil:
		return err
	case s.WALStatus == "lost":
		return errors.New("it is lost: the server has removed log that the relay had not read")
	case s.WALStatus == "unreserved":
		return Warning(errors.New("the server may remove log that the relay has not read at its next checkpoint"))
	}
	return nil
}

func (m *slotMetrics) get(ctx context.Context) (Slot, error) {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return Slot{}, context.Cause(ctx)
	}
	m.mu.Lock()
	fresh, last, err := time.Since(m.lastAt) < slotAge && m.err == nil, m.last, m.err
	m.mu.Unlock()
	if fresh {
		return last, err
	}
	last, err = m.read(ctx)
	m.mu.Lock()
	m.last, m.err, m.lastAt = last, err, time.Now()
	m.mu.Unlock()
	return last, err
}

var (
	slotRetained    = prometheus.NewDesc("walpost_slot_retained_bytes", "Log that the server keeps because of the slot.", nil, nil)
	slotUnconfirmed = prometheus.NewDesc("walpost_slot_unconfirmed_bytes", "Log between what the relay confirmed and what was written.", nil, nil)
	slotSafe        = prometheus.NewDesc("walpost_slot_safe_bytes", "Log that may still be written before the slot is in danger; absent without a limit.", nil, nil)
	slotInactive    = prometheus.NewDesc("walpost_slot_inactive_seconds", "Time since the slot was last in use; 0 while it is; absent where the server does not know, before PostgreSQL 17.", nil, nil)
	slotStatus      = prometheus.NewDesc("walpost_slot_wal_status", "1 for the status that the slot is in.", []string{"status"}, nil)
)

// Describe implements prometheus.Collector.
func (m *slotMetrics) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{slotRetained, slotUnconfirmed, slotSafe, slotInactive, slotStatus} {
		descs <- d
	}
}

// Collect implements prometheus.Collector. A slot that cannot be read is absent here and named by walpost_health.
func (m *slotMetrics) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout) //nolint:forbidigo // prometheus.Collector has no context to take
	defer cancel()
	s, err := m.get(ctx)
	if err != nil {
		return
	}
	metrics <- prometheus.MustNewConstMetric(slotRetained, prometheus.GaugeValue, float64(s.RetainedBytes))
	metrics <- prometheus.MustNewConstMetric(slotUnconfirmed, prometheus.GaugeValue, float64(s.UnconfirmedBytes))
	metrics <- prometheus.MustNewConstMetric(slotStatus, prometheus.GaugeValue, 1, s.WALStatus)
	if s.Inactive != nil {
		metrics <- prometheus.MustNewConstMetric(slotInactive, prometheus.GaugeValue, s.Inactive.Seconds())
	}
	if s.SafeBytes != nil {
		metrics <- prometheus.MustNewConstMetric(slotSafe, prometheus.GaugeValue, float64(*s.SafeBytes))
	}
}
