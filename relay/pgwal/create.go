package pgwal

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/relay"
)

// CreateSlot creates the slot if that skips no committed row of the outbox, and is a *relay.HaltError of cause SlotMissing otherwise. The
// publication must exist, since a slot reads the catalog as it was when each row was written. An existing slot gives ErrSlotExists.
//
// A new slot begins at the present: what was committed before is never sent. So a temporary slot is made first. Then every row that is visible
// in the table must also come out of that slot. Only then is the slot of the given name made, as a copy of the temporary one, which
// places it at the same position. A crash in between leaves nothing behind. Rows that were deleted again before are not seen by this.
//
// The snapshot that PostgreSQL offers with a new slot would prove the same with less effort, and must not be used: on a busy server it may
// show a transaction as neither running nor committed, and reading the table through it can hide its rows for good (pgsql-hackers,
// "Race conditions in logical decoding", January 2026).
func CreateSlot(ctx context.Context, cfg Config) error {
	return withConn(ctx, cfg, func(cfg Config, conn *pgx.Conn) error { return cfg.createSlot(ctx, conn) })
}

// CreateSlotSkipping creates the slot at the present, whatever rows there are: those committed before are never sent.
func CreateSlotSkipping(ctx context.Context, cfg Config) error {
	return withConn(ctx, cfg, func(cfg Config, conn *pgx.Conn) error {
		if _, err := cfg.checkPublished(ctx, conn, 0); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, "select pg_create_logical_replication_slot($1, 'pgoutput')", cfg.Slot)
		return cfg.explainCreate(err)
	})
}

func (c Config) createSlot(ctx context.Context, conn *pgx.Conn) error {
	t, err := c.checkPublished(ctx, conn, 0)
	if err != nil {
		return err
	}
	var there bool // looked for first: the rows that a new slot would skip are the old one's matter
	if err := conn.QueryRow(ctx, "select exists (select from pg_replication_slots where slot_name = $1)", c.Slot).Scan(&there); err != nil {
		return fmt.Errorf("look for slot %s: %w", c.Slot, err)
	}
	if there {
		return fmt.Errorf("slot %s: %w", c.Slot, ErrSlotExists)
	}
	c.Logger.Info("the relay creates its replication slot, which waits for open writing transactions", "slot", c.Slot)
	trial := fmt.Sprintf("walpost_trial_%d", conn.PgConn().PID()) // goes with the connection
	if _, err := conn.Exec(ctx, "select pg_create_logical_replication_slot($1, 'pgoutput', true)", trial); err != nil {
		return c.explainCreate(err)
	}
	skipped, err := c.skipped(ctx, conn, t, trial)
	if err != nil {
		return err
	}
	if skipped > 0 {
		return &relay.HaltError{
			Cause: relay.SlotMissing,
			Err:   fmt.Errorf("slot %s: %w, and a new one would skip rows that are already in %s, at least %d", c.Slot, ErrNoSlot, c.Table, skipped),
			Hint: fmt.Sprintf("if those rows were published before or are not wanted, which %s helps to find out, %s, then %s",
				c.slotCommand("status"), c.createCommand("--skip-existing"), c.adoptCommand()),
		}
	}
	_, err = conn.Exec(ctx, "select pg_copy_logical_replication_slot($1, $2, false)", trial, c.Slot)
	return c.explainCreate(err)
}

// maxTrialRows bounds the rows that are compared one by one. More than that in a table without a slot are no race with its first writers.
const maxTrialRows = 10_000

// skipped counts visible rows of the outbox that do not come out of the slot.
func (c Config) skipped(ctx context.Context, conn *pgx.Conn, t target, slot string) (int, error) {
	if err := waitVisible(ctx, conn); err != nil {
		return 0, err
	}
	column := pgx.Identifier{c.Mapping.IDColumn()}.Sanitize()
	rows, err := conn.Query(ctx, fmt.Sprintf("select coalesce(%s::text, '') from %s limit $1", column, t.sql()), maxTrialRows+1)
	if err != nil {
		return 0, c.explainTrial(err)
	}
	visible, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return 0, c.explainTrial(err)
	}
	if len(visible) == 0 || len(visible) > maxTrialRows {
		return len(visible), nil
	}
	sent, err := c.peek(ctx, conn, t, slot)
	if err != nil {
		return 0, err
	}
	missing := 0
	for _, id := range visible {
		if !sent[id] {
			missing++
		}
	}
	return missing, nil
}

// waitVisible waits until every transaction whose commit is in the log before now is visible. A commit is written to the log first and becomes
// visible a moment later; a slot made in between begins behind a row that nobody can see yet.
func waitVisible(ctx context.Context, conn *pgx.Conn) error {
	var next string
	if err := conn.QueryRow(ctx, "select pg_snapshot_xmax(pg_current_snapshot())::text").Scan(&next); err != nil {
		return fmt.Errorf("wait for running transactions: %w", err)
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		var visible bool
		if err := conn.QueryRow(ctx, "select pg_snapshot_xmin(pg_current_snapshot()) >= $1::xid8", next).Scan(&visible); err != nil || visible {
			return wrap(err, "wait for running transactions")
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// peek is the set of ids that come out of the slot, which stays where it is.
func (c Config) peek(ctx context.Context, conn *pgx.Conn, t target, slot string) (map[string]bool, error) {
	ids := make(map[string]bool)
	return ids, c.peekEvents(ctx, conn, t, slot, func(ev *relay.Event) { ids[ev.ID()] = true })
}

func (c Config) explainCreate(err error) error {
	switch code(err) {
	case "42710":
		return fmt.Errorf("slot %s: %w", c.Slot, ErrSlotExists)
	case "42501":
		return &relay.SlowRetry{Err: fmt.Errorf("create slot %s: the user lacks a right: alter role … replication: %w", c.Slot, err), After: authPause}
	case "53400":
		return fmt.Errorf("create slot %s: all replication slots are in use, and two more are needed for a moment; raise max_replication_slots or drop one: %w", c.Slot, err)
	}
	return wrap(err, "create slot "+c.Slot)
}

// explainTrial halts when the table cannot be read, and with it nothing proved.
func (c Config) explainTrial(err error) error {
	if code(err) != "42501" {
		return fmt.Errorf("read table %s: %w", c.Table, err)
	}
	return &relay.HaltError{
		Cause: relay.SlotMissing, Err: fmt.Errorf("slot %s: %w, and whether a new one would skip rows cannot be found out: %w", c.Slot, ErrNoSlot, err),
		Hint: c.createCommand() + ", as a user that may read all rows of the table",
	}
}
