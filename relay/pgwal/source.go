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
	streamed atomic.Bool // a stream was open: from then on a missing slot means lost events
}

// New checks the configuration; it connects to nothing.
func New(cfg Config) (*Source, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("pgwal: %w", err)
	}
	return &Source{cfg: cfg}, nil
}

// BufferedBytes is the size of the events that were received and not yet published. It is safe for concurrent use.
func (s *Source) BufferedBytes() int64 { return s.buffered.Load() }

// Open checks database, publication and slot, takes hold of the slot and begins to receive.
//
// A slot that does not exist is created when that skips no committed row (see CreateSlot), unless Config.RequireSlot is set or this Source
// has streamed from the slot before.
func (s *Source) Open(ctx context.Context) (relay.Stream, error) {
	admin, err := s.cfg.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer closeConn(ctx, admin)
	target, err := s.cfg.checkPublished(ctx, admin, 0)
	if err != nil {
		return nil, err
	}
	if err := s.ensureSlot(ctx, admin); err != nil {
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
	origin.Confirmed = slot.Confirmed
	s.streamed.Store(true)
	return startStream(ctx, s, wire, origin, target), nil
}

// ensureSlot returns nil when the slot can be streamed from, as far as the catalog knows.
func (s *Source) ensureSlot(ctx context.Context, admin *pgx.Conn) error {
	slot, err := s.cfg.readSlot(ctx, admin)
	if errors.Is(err, ErrNoSlot) && !s.cfg.RequireSlot && !s.streamed.Load() {
		if err := s.cfg.createSlot(ctx, admin); !errors.Is(err, ErrSlotExists) { // if it does, another relay was faster
			return err
		}
		return nil
	}
	if errors.Is(err, ErrNoSlot) {
		return s.cfg.missingSlot(err)
	}
	if err != nil {
		return err
	}
	return slot.check()
}
