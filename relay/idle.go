package relay

import (
	"context"
	"errors"
	"time"
)

// paced is a Stream that holds back positions without events for a while, for a Publisher to which each costs a transaction. A position
// that is held back is handed out with the next events, or when its time has come, whether the stream says anything more or not: a server
// that stops waits until its last position is confirmed.
type paced struct {
	stream Stream
	every  time.Duration

	spacing spacing

	due  time.Time // not before this is a position handed out alone
	held LSN       // zero: none
}

func (p *paced) next(ctx context.Context) (Batch, error) {
	p.spacing.wait(ctx, p.stream)
	for {
		batch, err := p.receive(ctx)
		if err != nil {
			return batch, err
		}
		now := time.Now()
		if len(batch.Events) == 0 && batch.End != 0 && now.Before(p.due) {
			p.held = batch.End
			continue
		}
		p.held, p.due = 0, now.Add(p.every)
		return batch, nil
	}
}

// receive waits for the stream, but not longer than a position may be held back.
func (p *paced) receive(ctx context.Context) (Batch, error) {
	if p.held == 0 {
		return p.stream.Next(ctx)
	}
	waiting, cancel := context.WithDeadline(ctx, p.due)
	defer cancel()
	batch, err := p.stream.Next(waiting)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return Batch{End: p.held}, nil
	}
	return batch, err
}
