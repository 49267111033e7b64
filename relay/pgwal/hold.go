package pgwal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/relay"
)

// ReadOrigin says who the server is and where the slot stands, without taking hold of the slot and without reading from it. With an error that matches
// ErrNoSlot it still says who the server is.
func ReadOrigin(ctx context.Context, cfg Config) (o relay.Origin, s SlotStatus, err error) {
	err = withConn(ctx, cfg, func(cfg Config, admin *pgx.Conn) error {
		var missing error
		if s, missing = cfg.readSlot(ctx, admin); missing != nil && !errors.Is(missing, ErrNoSlot) {
			return missing
		}
		conn, err := cfg.connectReplication(ctx)
		if err != nil {
			return err
		}
		defer closeConn(ctx, conn)
		if o, err = identify(ctx, conn, s.Name); err != nil {
			return err
		}
		if missing != nil {
			return missing
		}
		o.Confirmed = s.Confirmed
		o.Fresh, err = (&Source{cfg: cfg}).fresh(ctx, admin, s)
		return err
	})
	return o, s, err
}

// PeekSlot returns the positions of the events that the slot holds, which stays where it is. It reads all of them into memory. A slot that was peeked
// into is not fresh any more.
func PeekSlot(ctx context.Context, cfg Config) (held []relay.Position, err error) {
	err = withConn(ctx, cfg, func(cfg Config, conn *pgx.Conn) error {
		t, err := cfg.checkPublished(ctx, conn, 0)
		if err != nil {
			return err
		}
		return cfg.peekEvents(ctx, conn, t, cfg.Slot, func(ev *relay.Event) { held = append(held, ev.Position) })
	})
	return held, err
}

// holdLimit is longer than anybody needs to hold a slot.
const holdLimit = 10 * time.Minute

// HoldSlot calls fn with where the slot stands, while nobody else can read from it or move it. The error matches relay.ErrStandby when somebody does.
func HoldSlot(ctx context.Context, cfg Config, fn func(relay.Origin) error) error {
	cfg.SenderTimeout = holdLimit // nobody answers the server meanwhile
	return withConn(ctx, cfg, func(cfg Config, admin *pgx.Conn) error {
		wire, origin, err := cfg.startReplication(ctx)
		if err != nil {
			return cfg.explainStart(ctx, admin, err)
		}
		defer letGo(wire)
		s, err := cfg.readSlot(ctx, admin) // only now, when nobody else can move it
		if err != nil {
			return err
		}
		origin.Confirmed = s.Confirmed
		return fn(origin)
	})
}

// letGo returns when the server has let go of the slot, which it does before it closes the connection.
func letGo(wire *pgconn.HijackedConn) {
	_ = wire.Conn.SetDeadline(time.Now().Add(closeTimeout)) // if anything fails here, the server finds out by itself
	_, _ = wire.Conn.Write([]byte(terminate))
	_, _ = io.Copy(io.Discard, wire.Conn)
	_ = wire.Conn.Close()
}

// peekEvents calls fn for each event that comes out of the slot, which stays where it is.
func (c Config) peekEvents(ctx context.Context, conn *pgx.Conn, t target, slot string, fn func(*relay.Event)) error {
	rows, err := conn.Query(ctx, `select data from pg_logical_slot_peek_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', $2)`,
		slot, quoteIdentifier(c.Publication))
	if err != nil {
		return fmt.Errorf("look into slot %s: %w", slot, err)
	}
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if code(err) == "55006" {
		err = errors.Join(relay.ErrStandby, err)
	}
	if err != nil {
		return fmt.Errorf("look into slot %s: %w", slot, err)
	}
	c.QueueBytes, c.BatchBytes, c.BatchEvents = math.MaxInt64, math.MaxInt64, math.MaxInt
	queue := newQueue(c, new(atomic.Int64))
	feed := newAssembler(c, t, queue, make(layouts))
	for _, m := range messages {
		if len(m) == 0 {
			return fmt.Errorf("look into slot %s: %w", slot, errShort)
		}
		if err := feed.data(m, 0); err != nil {
			return err
		}
	}
	for _, b := range queue.queued {
		for i := range b.events {
			fn(&b.events[i])
		}
	}
	return nil
}
