package pgwal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walpost/walpost/relay"
)

// report is the only writer of the connection. It tells the server the confirmed position when it moves, when the server asks, and at
// intervals, whatever the sink is doing. It also notices a server that has gone without a word: one that is asked answers at once, so that
// silence over twice the timeout means that nobody is there. While receive does not read because the queue is full, silence means nothing.
func (s *stream) report() {
	interval := s.cfg.statusInterval()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var seen uint64
	var silent time.Duration
	for {
		ask := false
		select {
		case <-s.status:
		case <-ticker.C:
			silent += interval
			if frames := s.frames.Load(); frames != seen || s.queue.full.Load() {
				seen, silent = frames, 0
			}
			ask = silent > 0
		case <-s.closing:
			s.farewell()
			return
		}
		if err := s.sendStatus(ask, s.cfg.SenderTimeout); err != nil {
			s.lost(fmt.Errorf("send status: %w", err))
		}
		if silent > 2*s.cfg.SenderTimeout {
			s.lost(fmt.Errorf("the server has been silent for %v", silent))
		}
		s.rest()
	}
}

// statusGap is the least time between two status updates. A batch may be confirmed each millisecond, and the server would be woken for each.
const statusGap = 10 * time.Millisecond

func (s *stream) rest() {
	timer := time.NewTimer(statusGap)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.closing:
	}
}

func (s *stream) sendStatus(ask bool, limit time.Duration) error {
	now := time.Now()
	if err := s.conn.SetWriteDeadline(now.Add(limit)); err != nil {
		return err
	}
	_, err := s.conn.Write(appendStatus(nil, relay.LSN(s.confirmed.Load()), now, ask))
	return err
}

// farewell tells the server the last position and that the session is over. Errors are dropped: the connection is being given up, and what
// the server did not hear of is sent again.
func (s *stream) farewell() {
	if err := s.sendStatus(false, closeTimeout); err == nil {
		_, _ = s.conn.Write([]byte(terminate))
	}
}

// tell tells the server the last position by way of another connection, when events were published up to a halt after the stream had
// ended. Else each start would publish them again and halt again. A slot that another relay has taken is left alone.
func (s *stream) tell(ctx context.Context) error {
	end := relay.LSN(s.confirmed.Load())
	if !s.halted.Load() || !s.unheard.Load() || end <= s.origin.Confirmed {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	return s.cfg.moveSlot(ctx, s.origin, end)
}

// watch looks at the publication now and then. PostgreSQL 18 skips the rows of a publication that is gone and says so in a warning at most;
// no version says anything when the table has left it.
func (s *stream) watch(ctx context.Context) {
	ticker := time.NewTicker(s.cfg.CheckInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.doubt:
		case <-ctx.Done():
			return
		}
		err := s.recheck(ctx)
		var halt *relay.HaltError
		switch {
		case errors.As(err, &halt):
			s.end(err)
			return
		case err != nil && ctx.Err() == nil:
			s.cfg.Logger.Warn("the relay could not look at its publication", "error", err)
		}
	}
}

// recheck finds out through a connection of its own whether the publication still holds the table. If not, the rows in question were written
// since it was last seen to: what was received in the meantime may lack some, whether it has been confirmed or not.
func (s *stream) recheck(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	admin, err := s.cfg.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, admin)
	before := s.feed.received.Load() // the server had written at least so much when it looked into its catalog
	_, err = s.cfg.checkPublished(ctx, admin, s.target.oid)
	if err == nil {
		err = s.cfg.checkColumns(ctx, admin, s.target)
	}
	var halt *relay.HaltError
	if errors.As(err, &halt) {
		halt.From, halt.To = relay.LSN(s.sound.Load()), s.received()
	}
	if err == nil {
		s.sound.Store(before)
	}
	return err
}
