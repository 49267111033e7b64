package relay_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// errInjected is every fault of a world.
var errInjected = errors.New("injected")

// commit is one transaction of a world's log.
type commit struct {
	lsn, end relay.LSN
	events   []relay.Event
}

// world is a database, a slot and a topic in memory: it implements Source and Sink on one goroutine. Its choices come from pick and fault, and
// broken holds the first rule that the engine broke.
type world struct {
	log   []commit
	tail  relay.LSN // end of the write-ahead log, beyond the last commit
	slot  relay.LSN
	slots []relay.LSN // the positions that the slot went through: a crash takes it back to one of them

	topic     []relay.Event
	watermark relay.Watermark // kept durably if atomic is set
	atomic    bool            // publish events and watermark in one step or not at all

	pick   func(n int, what string) int // 0 to n
	fault  func(what string) bool
	done   func() // called when everything is confirmed
	broken error
}

func event(lsn relay.LSN, index uint32) relay.Event {
	id := fmt.Sprintf("%s#%d", lsn, index)
	return relay.Event{
		Position: relay.Position{Commit: lsn, Index: index},
		Record:   record.Record{Topic: "t", Key: []byte("k"), Headers: []record.Header{{Key: record.HeaderID, Value: []byte(id)}}},
	}
}

// addCommit appends a transaction of n events to the log.
func (w *world) addCommit(n int) {
	lsn := w.tail + 10
	c := commit{lsn: lsn, end: lsn + 8}
	for i := range n {
		c.events = append(c.events, event(lsn, uint32(i)))
	}
	w.log, w.tail = append(w.log, c), lsn+20
}

func (w *world) breaks(format string, args ...any) {
	if w.broken == nil {
		w.broken = fmt.Errorf(format, args...)
	}
}

func (w *world) Open(ctx context.Context) (relay.Stream, error) {
	if w.fault("source cannot open") {
		return nil, errInjected
	}
	if w.fault("slot is held") {
		return nil, relay.ErrStandby
	}
	if len(w.slots) > 0 && w.fault("server crash takes the slot back") {
		w.slots = w.slots[:1+w.pick(len(w.slots)-1, "slot position")]
		w.slot = w.slots[len(w.slots)-1]
	}
	s := &fakeStream{w: w, origin: relay.Origin{SystemID: "1", Timeline: 1, Slot: "s", Confirmed: w.slot}}
	for _, c := range w.log {
		if c.end > w.slot {
			s.ahead = append(s.ahead, c)
		}
	}
	return s, nil
}

type fakeStream struct {
	w      *world
	origin relay.Origin
	ahead  []commit // what was not handed out yet
	sent   relay.LSN
	closed bool
}

func (s *fakeStream) Origin() relay.Origin { return s.origin }

// Next hands out part of a transaction, some transactions, or a position alone.
func (s *fakeStream) Next(ctx context.Context) (relay.Batch, error) {
	if ctx.Err() != nil {
		return relay.Batch{}, ctx.Err()
	}
	if s.closed || s.w.fault("source is cut off") {
		return relay.Batch{}, errInjected
	}
	if len(s.ahead) == 0 {
		return s.handOut(nil, s.w.tail)
	}
	first := &s.ahead[0]
	if n := len(first.events); n > 1 && s.w.pick(3, "split") == 0 {
		at := 1 + s.w.pick(n-2, "split at")
		part := first.events[:at]
		first.events = first.events[at:]
		return s.handOut(part, 0)
	}
	var events []relay.Event
	var end relay.LSN
	for range 1 + s.w.pick(2, "transactions") {
		if len(s.ahead) == 0 {
			break
		}
		events, end = append(events, s.ahead[0].events...), s.ahead[0].end
		s.ahead = s.ahead[1:]
	}
	return s.handOut(events, end+relay.LSN(s.w.pick(1, "keepalive")))
}

func (s *fakeStream) handOut(events []relay.Event, end relay.LSN) (relay.Batch, error) {
	s.sent = max(s.sent, end)
	return relay.Batch{Events: events, End: end}, nil
}

func (s *fakeStream) Confirm(end relay.LSN) {
	w := s.w
	if end > s.sent {
		w.breaks("confirmed %s, above the %s that was handed out", end, s.sent)
	}
	held := make(map[relay.Position]bool)
	for _, e := range w.topic {
		held[e.Position] = true
	}
	for _, c := range w.log {
		for _, e := range c.events {
			if c.end <= end && !held[e.Position] {
				w.breaks("confirmed %s before event %s was published", end, e.Position)
			}
		}
	}
	if w.fault("confirmation is lost") {
		return
	}
	w.slot = max(w.slot, end)
	w.slots = append(w.slots, w.slot)
	if w.slot >= w.tail {
		w.done()
	}
}

func (s *fakeStream) Close() error { s.closed = true; return nil }

// fakeSink is the sink half: world cannot have two methods Open.
type fakeSink struct{ *world }

func (s fakeSink) Open(ctx context.Context, o relay.Origin) (relay.Publisher, relay.Watermark, error) {
	if s.fault("sink cannot open") {
		return nil, relay.Watermark{}, errInjected
	}
	return &fakePublisher{w: s.world}, s.watermark, nil
}

type fakePublisher struct {
	w      *world
	failed bool
}

func (p *fakePublisher) Publish(ctx context.Context, events []relay.Event, mark relay.Watermark) error {
	w := p.w
	if p.failed {
		w.breaks("Publish after a failed Publish")
	}
	p.failed = w.fault("publish fails")
	switch {
	case !w.atomic && p.failed:
		w.topic = append(w.topic, events[:w.pick(len(events), "published before the fault")]...)
	case !p.failed, w.pick(1, "outcome of the failed publish") == 1:
		w.topic = append(w.topic, events...)
		if w.atomic {
			w.watermark = mark
		}
	}
	if p.failed {
		return errInjected
	}
	return nil
}

func (p *fakePublisher) Close() error { return nil }
