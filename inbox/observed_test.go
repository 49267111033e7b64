package inbox_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/walpost/walpost/inbox"
)

// observer counts.
type observer struct {
	mu      sync.Mutex // protects the fields
	counts  map[inbox.Result]int
	handled int
	lags    []inbox.Lag
	commits []error
	moves   []string
	revoked time.Duration // how long the last revocation took
	pauses  []string
	spans   []string
	rewinds []string
}

func newObserver() *observer { return &observer{counts: make(map[inbox.Result]int)} }

func (o *observer) MessageResult(_, _ string, r inbox.Result) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.counts[r]++
}

func (o *observer) Handled(*inbox.Message, time.Duration, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.handled++
}

func (o *observer) Lag(partitions []inbox.Lag) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lags = partitions
}

func (o *observer) Committed(_ time.Duration, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.commits = append(o.commits, err)
}

func (o *observer) Rebalanced(kind inbox.Rebalance, partitions, _ int, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if kind == inbox.Revoked {
		o.revoked = took
	}
	o.moves = append(o.moves, fmt.Sprintf("%s %d", kind, partitions))
}

func (o *observer) Paused(topic string, partition int32, reasons []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pauses = append(o.pauses, fmt.Sprintf("%s/%d %v", topic, partition, reasons))
}

func (o *observer) Rewound(topic string, partition int32, kafka, position int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rewinds = append(o.rewinds, fmt.Sprintf("%s/%d: %d to %d", topic, partition, kafka, position))
}

func (o *observer) rewound() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.rewinds)
}

// failedCommits is how many commits failed.
func (o *observer) failedCommits() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, err := range o.commits {
		if err != nil {
			n++
		}
	}
	return n
}

func (o *observer) StartSpan(ctx context.Context, m *inbox.Message) (context.Context, func(error)) {
	return context.WithValue(ctx, spanKey{}, m.TraceParent), func(err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.spans = append(o.spans, fmt.Sprint(m.TraceParent, " ", err))
	}
}

type spanKey struct{}

func (o *observer) results(r inbox.Result) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.counts[r]
}

func (o *observer) all() map[inbox.Result]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make(map[inbox.Result]int)
	for r, n := range o.counts {
		all[r] = n
	}
	return all
}

func (o *observer) has(list func(*observer) []string, want string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(list(o), want)
}

func moves(o *observer) []string  { return o.moves }
func pauses(o *observer) []string { return o.pauses }
func spans(o *observer) []string  { return o.spans }

func (o *observer) lag() []inbox.Lag {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.lags)
}

// logBuffer keeps a log for the case that its test fails.
type logBuffer struct {
	mu  sync.Mutex // protects buf
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
