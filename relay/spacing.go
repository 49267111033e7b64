package relay

import (
	"context"
	"time"
)

// spacing lets events gather between two batches. Each batch costs brokers, consumers and the machine something, however few events it has: who is
// behind is faster with larger ones. So when events have waited for long, the next ones are given a part of that time to gather, which nobody notices;
// and none when they come one by one.
type spacing struct {
	least time.Duration // Spacer.Gap

	taken  time.Time     // when the latest batch with events was
	waited time.Duration // its first event, until then
	until  time.Time     // the next batch gathers
}

const (
	// gapFrom is the wait from which on the events behind are given time: far more than a batch takes when all is well.
	gapFrom = 20 * time.Millisecond

	// gapShare of the wait beyond gapFrom is the gap. It settles: a gap adds less than itself to the wait of the events after it.
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

// begin notes a batch that is about to be published.
func (s *spacing) begin(b Batch) {
	if len(b.Events) == 0 {
		return
	}
	s.taken, s.waited = time.Now(), 0
	if !b.Since.IsZero() {
		s.waited = s.taken.Sub(b.Since)
	}
	s.until = s.taken.Add(s.least)
}

// end notes that it was published. What came meanwhile may be little, when publishing is faster than the log.
func (s *spacing) end() {
	if gap := min((s.waited-gapFrom)/gapShare, gapMost); gap > 0 {
		s.until = latest(s.until, time.Now().Add(gap))
		s.waited = 0
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wait is until the next batch may be taken, or a full one is there.
func (s *spacing) wait(ctx context.Context, stream Stream) {
	if time.Now().Before(s.until) {
		if stream, ok := stream.(Gatherer); ok {
			stream.Gather(ctx, s.until)
		}
	}
}
