package inbox

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Consumer applies the messages of a consumer group's topics to a database. Make one with New; several, in one process or in many, share
// the work.
type Consumer struct {
	pool    *pgxpool.Pool
	cfg     Config
	started atomic.Bool
	ready   atomic.Pointer[error]
}

var (
	errNotStarted   = errors.New("inbox: the consumer is not running")
	errNotJoined    = errors.New("inbox: the consumer has not joined its group yet")
	errUnreconciled = errors.New("inbox: the consumer waits for the database to tell where to begin")
	errDraining     = errors.New("inbox: the consumer is stopping")
)

// New makes a consumer from a pool, which stays the caller's and must outlive Run, and a configuration. It connects to nothing. The error
// lists everything that is wrong with the configuration.
func New(pool *pgxpool.Pool, cfg Config) (*Consumer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(pool); err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	c := &Consumer{pool: pool, cfg: cfg}
	c.setReady(errNotStarted)
	return c, nil
}

// Ready reports whether the consumer takes part in its group: nil from the first assignment, even an empty one, until it is lost or the
// consumer stops. It may be called at any time from any goroutine.
func (c *Consumer) Ready() error { return *c.ready.Load() }

func (c *Consumer) setReady(err error) { c.ready.Store(&err) }

// Run consumes until ctx ends. It then stops reading, lets running handlers finish (Config.Drain), commits, leaves the group and returns
// nil if all of that went well; an error says which handlers were cut off, or that the last offsets were not committed. Either way nothing
// is lost: what was not committed is delivered again.
//
// Run also returns an error, after the same steps without the waiting, for what a further try would not mend: a committed offset that is
// not in the log any more, a truncated or compacted topic, a refused authorization, a missing table at the start, or a panic anywhere but in a handler.
// The process should then end. A database or broker that cannot be reached is waited for. When the database turns out to have another history,
// as after a failover to a standby that was behind, Run begins again by itself, at the positions that it has. Run can be called once.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.started.CompareAndSwap(false, true) {
		return errors.New("inbox: Run was called before; make a new Consumer")
	}
	defer c.setReady(errNotStarted)
	for {
		err := c.runOnce(ctx)
		if !errors.Is(err, errNewHistory) || ctx.Err() != nil {
			return err
		}
		c.cfg.Logger.Warn("what the database had may be gone; beginning again at the positions that it has", "group", c.cfg.Group, "error", err)
	}
}

// runOnce is Run for one history of the database.
func (c *Consumer) runOnce(ctx context.Context) error {
	c.setReady(errNotJoined)
	id, err := c.register(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	r, err := newRun(ctx, c, id)
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	if err := r.until(ctx); err != nil {
		return fmt.Errorf("inbox: consumer %q: %w", c.cfg.Group, err)
	}
	return nil
}
