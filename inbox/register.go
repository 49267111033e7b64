package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// register finds or makes the consumer's row in inbox_consumer and checks the session's settings. A database that cannot be reached is
// waited for; ctx ends the waiting with its own error.
func (c *Consumer) register(ctx context.Context) (id int16, err error) {
	for n := 1; ; n++ {
		id, err = registered(ctx, c.pool, c.cfg.Group)
		if err == nil || ctx.Err() != nil || classify(err) != classSystemic || isSkew(err) {
			return id, err
		}
		wait := exponential(c.cfg.Retry.Min, c.cfg.Retry.Max, outageGrowth, n)
		c.cfg.Logger.Warn("database cannot be reached, the consumer has not started", "retry_in", wait, "error", err)
		if err := pause(ctx, wait); err != nil {
			return 0, err
		}
	}
}

func registered(ctx context.Context, pool *pgxpool.Pool, group string) (id int16, err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect to the database: %w", err)
	}
	defer conn.Release()
	var durability string
	if err := conn.QueryRow(ctx, "select current_setting('synchronous_commit')").Scan(&durability); err != nil {
		return 0, fmt.Errorf("read synchronous_commit: %w", err)
	}
	if durability == "off" {
		return 0, errors.New("synchronous_commit is off: a crash of PostgreSQL would lose effects whose offsets Kafka has already, " +
			"and nothing would bring them back; set it to on for this user or connection (alter role … set synchronous_commit = on)")
	}
	// Look first: an insert that conflicts would draw from the sequence all the same, and a smallint is used up after 32,767 starts.
	for range 2 {
		err = conn.QueryRow(ctx, "select id from inbox_consumer where name = $1", group).Scan(&id)
		if !errors.Is(err, pgx.ErrNoRows) {
			break
		}
		if _, err = conn.Exec(ctx, "insert into inbox_consumer (name) values ($1) on conflict (name) do nothing", group); err != nil {
			break
		}
	}
	if err == nil {
		_, err = conn.Exec(ctx, "select from inbox_position limit 0") // a table that an older version does not have
	}
	if isSkew(err) {
		return 0, fmt.Errorf("look up consumer %q: %w; run `walpost migrate up`", group, err)
	}
	if err != nil {
		return 0, fmt.Errorf("look up consumer %q: %w", group, err)
	}
	return id, nil
}
