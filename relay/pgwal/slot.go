package pgwal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/relay"
)

// ErrNoSlot says that the replication slot does not exist, ErrSlotExists that it does, where that is in the way.
var (
	ErrNoSlot     = errors.New("replication slot does not exist")
	ErrSlotExists = errors.New("replication slot exists already")
)

// SlotStatus is what the server says of a slot.
type SlotStatus struct {
	Name         string
	Plugin       string // pgoutput, if the slot is of any use here
	Database     string // a slot belongs to one database
	ThisDatabase bool
	Active       bool // somebody streams from it
	ActivePID    int32
	ActiveName   string // application_name of who streams: ApplicationName, Debezium Streaming

	WALStatus          string // reserved, extended, unreserved or lost
	InvalidationReason string // why it is lost, from PostgreSQL 17; else empty

	Confirmed relay.LSN // everything below was confirmed by a relay
	Restart   relay.LSN // the server keeps its log from here on
	Current   relay.LSN // where the server writes now

	SafeBytes     *int64     // what may still be written before the slot is in danger; nil: no limit is set
	InactiveSince *time.Time // from PostgreSQL 17; else nil

	again string // how to make the slot anew
}

// RetainedBytes is how much log the server keeps because of the slot.
func (s SlotStatus) RetainedBytes() int64 { return distance(s.Restart, s.Current) }

// UnconfirmedBytes is how much log lies between what was confirmed and what was written, most of it nothing to do with the outbox.
func (s SlotStatus) UnconfirmedBytes() int64 { return distance(s.Confirmed, s.Current) }

func distance(from, to relay.LSN) int64 {
	if from == 0 || to < from {
		return 0
	}
	return int64(to - from)
}

// Check returns a *relay.HaltError when the slot cannot be streamed from. That somebody else does is no such error.
func (s SlotStatus) Check() error {
	switch {
	case !s.ThisDatabase:
		return &relay.HaltError{
			Cause: relay.SlotMissing, Err: fmt.Errorf("slot %s belongs to database %s", s.Name, s.Database),
			Hint: "choose another slot name with --slot, or the right database with --database-url",
		}
	case s.Plugin != "pgoutput":
		return &relay.HaltError{
			Cause: relay.SlotMissing, Err: fmt.Errorf("slot %s is of plugin %s, not pgoutput", s.Name, s.Plugin),
			Hint: "choose another slot name with --slot",
		}
	case s.lost():
		return &relay.HaltError{
			Cause: relay.SlotLost, From: s.Confirmed, To: s.Current, Err: fmt.Errorf("slot %s is lost (%s)", s.Name, s.lostReason()),
			Hint: cmp.Or(s.again, Config{Slot: s.Name}.withDefaults().again()),
		}
	}
	return nil
}

func (s SlotStatus) lost() bool { return s.WALStatus == "lost" || s.InvalidationReason != "" }

func (s SlotStatus) lostReason() string {
	if s.InvalidationReason != "" {
		return s.InvalidationReason
	}
	return "the server has removed log that it needed"
}

// ReadSlot is the state of the slot, or an error that matches ErrNoSlot.
func ReadSlot(ctx context.Context, cfg Config) (s SlotStatus, err error) {
	err = withConn(ctx, cfg, func(cfg Config, conn *pgx.Conn) error {
		s, err = cfg.readSlot(ctx, conn)
		return err
	})
	return s, err
}

// DropSlot removes the slot: events that are not published yet are never sent. The error matches ErrNoSlot, or relay.ErrStandby while the slot
// is in use.
func DropSlot(ctx context.Context, cfg Config) error {
	return withConn(ctx, cfg, func(cfg Config, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "select pg_drop_replication_slot($1)", cfg.Slot)
		switch code(err) {
		case "42704":
			return fmt.Errorf("slot %s: %w", cfg.Slot, ErrNoSlot)
		case "55006":
			return fmt.Errorf("slot %s: %w: stop the relay first", cfg.Slot, relay.ErrStandby)
		}
		return wrap(err, "drop slot "+cfg.Slot)
	})
}

// withConn checks the configuration and calls fn with it and a connection.
func withConn(ctx context.Context, cfg Config, fn func(Config, *pgx.Conn) error) error {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return fmt.Errorf("pgwal: %w", err)
	}
	conn, err := cfg.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return fn(cfg, conn)
}

// readSlot asks by way of JSON for the columns that older servers lack.
func (c Config) readSlot(ctx context.Context, conn *pgx.Conn) (SlotStatus, error) {
	s := SlotStatus{Name: c.Slot, again: c.again()}
	err := conn.QueryRow(ctx, `
		select coalesce(s.plugin, ''), coalesce(s.database, ''), coalesce(s.database = current_database(), false), s.active, coalesce(s.active_pid, 0),
			coalesce((select a.application_name from pg_stat_activity a where a.pid = s.active_pid), ''), coalesce(s.wal_status, ''), coalesce(to_jsonb(s)->>'invalidation_reason', ''),
			s.confirmed_flush_lsn::text, s.restart_lsn::text,
			(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text,
			s.safe_wal_size, (to_jsonb(s)->>'inactive_since')::timestamptz
		from pg_replication_slots s where s.slot_name = $1`, c.Slot).Scan(
		&s.Plugin, &s.Database, &s.ThisDatabase, &s.Active, &s.ActivePID, &s.ActiveName, &s.WALStatus, &s.InvalidationReason,
		&s.Confirmed, &s.Restart, &s.Current, &s.SafeBytes, &s.InactiveSince)
	if errors.Is(err, pgx.ErrNoRows) {
		return s, fmt.Errorf("slot %s: %w", c.Slot, ErrNoSlot)
	}
	return s, wrap(err, "look at slot "+c.Slot)
}

// missingSlot is the halt for a slot that is not there although it must be.
func (c Config) missingSlot(err error) error {
	return &relay.HaltError{
		Cause: relay.SlotMissing, Err: err,
		Hint: c.slotCommand("status") + " says what was published; " + c.createCommand() + ", with --skip-existing if the outbox table has rows; " + c.adoptCommand(),
	}
}
