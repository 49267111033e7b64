package ops

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// MailObserver counts attempts to send mails. It is safe for concurrent use.
type MailObserver struct {
	attempts *prometheus.CounterVec
	hops     *prometheus.HistogramVec
}

// MailObserver returns the observer of this process's mail worker. Call it once.
func (o *Ops) MailObserver() *MailObserver {
	m := &MailObserver{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walpost_effect_attempts_total", Help: "Attempts to send a mail, by the state that the mail then had.",
		}, []string{"state"}),
		hops: o.hops(),
	}
	o.Registry.MustRegister(m.attempts)
	return m
}

// MailAttempted counts an attempt after which the mail was in the state. age is the time since it was recorded.
func (m *MailObserver) MailAttempted(state string, age time.Duration) {
	m.attempts.WithLabelValues(state).Inc()
	if state == "sent" {
		m.hops.WithLabelValues("apply_effect").Observe(age.Seconds())
	}
}
