package bench

import (
	"context"
	"sync"
	"time"
)

// soakWatch looks at a relay's memory and at its slot ten times a second, and keeps the highest of each second.
type soakWatch struct {
	world  *world
	slot   string
	pid    int
	length time.Duration // of what is kept

	mu     sync.Mutex // protects opened
	opened time.Time  // what is kept begins here; zero: not yet

	log                 logTrail // of run; so are those below, until it has returned
	memory, lag, behind []float64
}

// open begins to keep what is seen.
func (s *soakWatch) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = time.Now()
}

// run watches until ctx ends. It begins before open, so as to know the age of what is not confirmed then.
func (s *soakWatch) run(ctx context.Context) error {
	ticker := time.NewTicker(samplePeriod)
	defer ticker.Stop()
	for {
		if err := s.look(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (s *soakWatch) look(ctx context.Context) error {
	at := time.Now()
	var end, confirmed int64
	err := s.world.pool.QueryRow(ctx, `
		select (pg_current_wal_flush_lsn() - '0/0')::bigint, (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots where slot_name = $1`, s.slot).
		Scan(&end, &confirmed)
	if err != nil {
		return err
	}
	lag := s.log.age(at, end, confirmed)
	s.mu.Lock()
	opened := s.opened
	s.mu.Unlock()
	second := int(at.Sub(opened) / time.Second)
	if opened.IsZero() || at.Before(opened) || at.Sub(opened) >= s.length {
		return nil
	}
	if said := len(s.lag); said > 0 && second == said && second%60 == 0 {
		s.world.say("  after %v: %s MiB, confirmed position %.1f s behind", time.Duration(second)*time.Second, digits(s.memory[said-1]), s.lag[said-1])
	}
	highest(&s.memory, second, round(residentMiB(s.pid), 1))
	highest(&s.lag, second, round(lag.Seconds(), 3))
	highest(&s.behind, second, round(float64(max(end-confirmed, 0))/(1<<20), 2))
	return nil
}

// highest keeps the value of a second if it is the highest yet. A second in which nobody looked has the value of the one before.
func highest(list *[]float64, second int, value float64) {
	for len(*list) <= second {
		last := value
		if n := len(*list); n > 0 && n < second {
			last = (*list)[n-1]
		}
		*list = append(*list, last)
	}
	(*list)[second] = max((*list)[second], value)
}

// logTrail remembers where the log ended when, as far back as it is not confirmed.
type logTrail []struct {
	at  time.Time
	end int64
}

// age is how long ago the oldest of what is not confirmed was written. What was written between two looks counts from the first of them, so that the age
// is never told too small, and too large by the time between two looks at most.
func (t *logTrail) age(at time.Time, end, confirmed int64) time.Duration {
	*t = append(*t, struct {
		at  time.Time
		end int64
	}{at, end})
	for len(*t) > 1 && (*t)[1].end <= confirmed {
		*t = (*t)[1:]
	}
	if confirmed >= end {
		return 0
	}
	return at.Sub((*t)[0].at)
}
