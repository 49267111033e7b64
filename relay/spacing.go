package relay

import (
	"context"
	"time"
)

// spacing lets events gather between two batches. Each batch costs brokers, consumers and the machine something, however few events it has: who is
// behind is faster with larger ones. So the gap is a part of the time that events have waited anyway, which nobody notices, and nothing when they come
// one by one.
type spacing struct {
	least time.Duration // Spacer.Gap
	began time.Time     // when the latest batch with events was taken
	gap   time.Duration // from then on
}

const (
	// gapShare of the time for which a batch's first event has waited is the gap behind it. It settles: a gap adds to the wait of the events after it less
	// than itself.
	gapShare = 4

	// gapMost is enough for batches that fill themselves: some thousand events.
	gapMost = 25 * time.Millisecond
)

func spacingOf(p Publisher) (s spacing) {
	if spacer, ok := p.(Spacer); ok {
		s.least = spacer.Gap()
	}
	return s
}

// taken notes a batch that is about to be published.
func (s *spacing) taken(b Batch) {
	if len(b.Events) == 0 {
		return
	}
	s.began, s.gap = time.Now(), s.least
	if !b.Since.IsZero() {
		s.gap = max(s.least, min(s.began.Sub(b.Since)/gapShare, gapMost))
	}
}

// wait is until the next batch may be taken, or a full one is there.
func (s *spacing) wait(ctx context.Context, stream Stream) {
	if until := s.began.Add(s.gap); time.Now().Before(until) {
		if stream, ok := stream.(Gatherer); ok {
			stream.Gather(ctx, until)
		}
	}
}
