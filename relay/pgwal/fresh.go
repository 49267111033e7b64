package pgwal

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/relay"
)

// fresh reports whether the slot stands where it was made. The catalog does not say so, but the statistics do: nothing was decoded through it yet.
// What this Source decodes itself does not count, for as long as the slot has not moved.
//
// It errs when the server has lost its statistics in a crash: then an old slot looks fresh.
func (s *Source) fresh(ctx context.Context, admin *pgx.Conn, slot SlotStatus) (bool, error) {
	if s.freshAt.Load() == uint64(slot.Confirmed) {
		return true, nil
	}
	var transactions int64
	err := admin.QueryRow(ctx, "select total_txns from pg_stat_replication_slots where slot_name = $1", s.cfg.Slot).Scan(&transactions)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("look at the statistics of slot %s: %w", s.cfg.Slot, err)
	}
	if transactions > 0 {
		return false, nil
	}
	s.freshAt.Store(uint64(slot.Confirmed))
	return true, nil
}

// before is the slot as it is before its stream is started, and whether it is fresh.
func (s *Source) before(ctx context.Context, admin *pgx.Conn) (relay.LSN, bool, error) {
	slot, err := s.cfg.readSlot(ctx, admin)
	if err != nil {
		return 0, false, err
	}
	fresh, err := s.fresh(ctx, admin, slot)
	return slot.Confirmed, fresh, err
}
