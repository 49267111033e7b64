package relay

import (
	"fmt"
	"time"
)

// watchStall says that the relay is stalled when a batch is not acknowledged in time: a Sink may wait for ever for brokers that are away, and
// meanwhile nothing else tells. The returned function ends the watch; nothing is said after it, but that the relay goes on.
func (r *run) watchStall(events int, mark Watermark) (ended func(acknowledged bool)) {
	said := make(chan struct{})
	timer := time.AfterFunc(r.cfg.StallAfter, func() {
		defer close(said)
		r.enter(StateStalled, fmt.Errorf("%d events up to %s have not been acknowledged for %v", events, mark.Position, r.cfg.StallAfter))
	})
	return func(acknowledged bool) {
		if timer.Stop() {
			return
		}
		<-said // the timer's goroutine is the only other one that enters a state
		if acknowledged {
			r.enter(StateStreaming, nil)
		}
	}
}
