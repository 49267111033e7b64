package relay

import "fmt"

// Fork is where one timeline of a database cluster was left for the next: when a standby was promoted, or a backup recovered. Both have the same log up
// to there.
type Fork struct {
	Timeline int32 // the one that was left
	At       LSN   // the first position that the two do not share
}

// CarryOver returns w as it holds on the timeline of the origin, or a *HaltError of cause IdentityChanged. A watermark of an earlier timeline holds
// when no event was published from a position that the origin's log does not share: then all that lies before the fork was published, and
// nothing of what lies behind it.
func (o Origin) CarryOver(w Watermark) (Watermark, error) {
	if w.Timeline == 0 || w.Timeline == o.Timeline {
		return w, nil
	}
	at, ok := o.left(w.Timeline)
	if !ok {
		return w, &HaltError{
			Cause: IdentityChanged, From: w.End, To: o.Confirmed,
			Err: fmt.Errorf("the database is on timeline %d, and what was published through slot %s is of timeline %d, which does not lead there: it is an older server, or another recovery",
				o.Timeline, o.Slot, w.Timeline),
			Hint: o.SlotCommand("status") + "; compare the outbox table with the topic, then " + o.SlotCommand("adopt"),
		}
	}
	// Where nothing was published by position, Position tells nothing: whoever adopted the slot may have published up to End by other means.
	if none := w.Position == (Position{}); none && w.End > at || !none && w.Position.Commit >= at {
		return w, &HaltError{
			Cause: IdentityChanged, From: at, To: max(w.Position.Commit, w.End),
			Err: fmt.Errorf("the database is on timeline %d, which left timeline %d at %s, and events behind that were published: they are on the topic, and were lost with the server that had them",
				o.Timeline, w.Timeline, at),
			Hint: o.SlotCommand("status") + "; compare the outbox table with the topic, then " + o.SlotCommand("adopt") + " to go on without what is missing",
		}
	}
	w.Timeline, w.End = o.Timeline, min(w.End, at)
	return w, nil
}

// left is where the origin's log left the timeline.
func (o Origin) left(timeline int32) (LSN, bool) {
	for _, fork := range o.Forks {
		if fork.Timeline == timeline {
			return fork.At, true
		}
	}
	return 0, false
}
