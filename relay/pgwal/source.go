// Package pgwal is the relay.Source that reads committed outbox rows from PostgreSQL's write-ahead log, through a logical replication slot
// and the plugin pgoutput. It speaks protocol version 1: the server holds back each transaction until it commits, spills large ones to its
// own disk, and sends transactions in commit order.
//
// It is not a general change data capture client: it hands out inserts into one table, and nothing else that a publication may carry.
//
// The invariants: a position is confirmed to the server only after Stream.Confirm, never above what this connection received, and only the
// end of a whole transaction or a keepalive read between two of them. Queued bytes are bounded whatever the size of a transaction; when the
// queue is full the connection is not read, and the server waits. Status updates have a goroutine of their own, so that a sink that
// stands still costs neither the connection nor the slot.
package pgwal

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/relay"
)

// Source opens streams from one replication slot.
type Source struct {
	cfg      Config
	buffered atomic.Int64
	streamed atomic.Bool   // a stream was open: from then on a missing slot means lost events
	freshAt  atomic.Uint64 // where the slot stood when nothing had been decoded through it; zero: not known
	layouts  layouts       // of the stream that is open
}

// New checks the configuration; it connects to nothing.
func New(cfg Config) (*Source, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("pgwal: %w", err)
	}
	return &Source{cfg: cfg, layouts: make(layouts)}, nil
}

// BufferedBytes is the size of the events that were received and not yet published. It is safe for concurrent use.
func (s *Source) BufferedBytes() int64 { return s.buffered.Load() }

// Prepare checks database, publication and slot, as Open does. It reads nothing from the slot.
//
// A slot that does not exist is created when that skips no committed row (see CreateSlot), unless Config.RequireSlot is set or this Source
// has streamed from the slot before. Creating it waits for as long as writing transactions are open; all else is bounded by a few times
// Config.ConnectTimeout.
func (s *Source) Prepare(ctx context.Context) error {
	admin, err := s.cfg.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, admin)
	_, err = s.prepare(ctx, admin)
	return err
}

// Open does what Prepare does, takes hold of the slot and begins to receive.
func (s *Source) Open(ctx context.Context) (relay.Stream, error) {
	admin, err := s.cfg.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, admin)
	target, err := s.prepare(ctx, admin)
	if err != nil {
		return nil, err
	}
	return s.start(ctx, admin, target)
}

// prepare returns the outbox table once the slot can be streamed from, as far as the catalog knows.
func (s *Source) prepare(ctx context.Context, admin *pgx.Conn) (target, error) {
	t, missing, err := s.look(ctx, admin)
	if missing {
		if err = s.cfg.createSlot(ctx, admin); errors.Is(err, ErrSlotExists) { // another relay was faster
			err = nil
		}
	}
	s.cfg.locate(ctx, admin, err)
	return t, err
}

// bounded keeps a server, or what stands before it, from holding us up with silence.
func (s *Source) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 3*s.cfg.ConnectTimeout)
}

// look checks what must be there. missing says that the slot is not, and may be created.
func (s *Source) look(ctx context.Context, admin *pgx.Conn) (t target, missing bool, err error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if t, err = s.cfg.checkPublished(ctx, admin, 0); err != nil {
		return t, false, err
	}
	if err = s.cfg.checkColumns(ctx, admin, t); err != nil {
		return t, false, err
	}
	slot, err := s.cfg.readSlot(ctx, admin)
	switch {
	case errors.Is(err, ErrNoSlot) && !s.cfg.RequireSlot && !s.streamed.Load():
		return t, true, nil
	case errors.Is(err, ErrNoSlot):
		return t, false, s.cfg.missingSlot(err)
	case err != nil:
		return t, false, err
	}
	return t, false, slot.Check()
}

// locate gives a halt that is about no place in the log the stretch that it holds up: what the slot has not confirmed, or all there is where the slot is gone.
func (c Config) locate(ctx context.Context, admin *pgx.Conn, err error) {
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.From != 0 || halt.To != 0 {
		return
	}
	slot, lookErr := c.readSlot(ctx, admin)
	switch {
	case lookErr == nil && slot.ThisDatabase:
		halt.From, halt.To = slot.Confirmed, slot.Current
	case halt.Cause == relay.SlotMissing:
		_ = admin.QueryRow(ctx, "select pg_current_wal_lsn()::text").Scan(&halt.To) // who cannot tell tells the rest
	}
}

// start takes hold of the slot.
func (s *Source) start(ctx context.Context, admin *pgx.Conn, t target) (relay.Stream, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	begin, fresh, err := s.before(ctx, admin)
	if err != nil {
		return nil, err
	}
	wire, origin, err := s.cfg.startReplication(ctx)
	if err != nil {
		return nil, s.cfg.explainStart(ctx, admin, err)
	}
	slot, err := s.cfg.readSlot(ctx, admin) // only now, when nobody else can move it
	if err != nil {
		return nil, errors.Join(err, wire.Conn.Close())
	}
	origin.Confirmed, origin.Fresh = slot.Confirmed, fresh && slot.Confirmed == begin
	s.streamed.Store(true)
	return startStream(ctx, s, wire, origin, t), nil
}
