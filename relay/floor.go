package relay

import "fmt"

// floor leaves out the events at or below the watermark, because the Sink has them, and makes sure that they are the same ones: a position
// says nothing about another log.
type floor struct {
	origin  Origin
	mark    Watermark
	pending bool // the stream has yet to show the event at the watermark
}

func newFloor(w Watermark, o Origin) floor {
	return floor{origin: o, mark: w, pending: w.Position != (Position{}) && o.Confirmed <= w.Position.Commit}
}

// above returns the events above the watermark.
func (f *floor) above(events []Event) ([]Event, error) {
	at := f.mark.Position
	for len(events) > 0 && events[0].Position.Compare(at) <= 0 {
		if first := &events[0]; first.Position == at {
			if id := first.ID(); id != f.mark.EventID {
				return nil, f.halt(fmt.Errorf("at position %s there is event %s, but event %s was published from it: this is another log", at, id, f.mark.EventID))
			}
			f.pending = false
		}
		events = events[1:]
	}
	if len(events) > 0 && f.pending {
		return nil, f.halt(fmt.Errorf("event %s was published from position %s, where the log has none now: it is another log, or another table or publication",
			f.mark.EventID, at))
	}
	return events, nil
}

func (f *floor) halt(err error) error {
	return &HaltError{
		Cause: IdentityChanged, From: f.mark.Position.Commit, Err: err,
		Hint: f.origin.SlotCommand("status") + "; the database was probably restored or failed over: compare the outbox table with the topic, then " +
			f.origin.SlotCommand("adopt"),
	}
}
