package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

func newSlotCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{
		Use:   "slot",
		Short: "Look at, create, adopt and drop the replication slot",
		Long: `Look at, create, adopt and drop the replication slot: PostgreSQL's mark of what the relay has published. While a slot exists the server keeps
its log from there on.`,
	}, newSlotStatusCommand(p), newSlotCreateCommand(p), newSlotAdoptCommand(p), newSlotDropCommand(p))
}

func newSlotCreateCommand(p *program) *cobra.Command {
	var skip, ifMissing bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create the slot where it skips no event",
		Long: `Create the slot, if every event in the outbox table will come out of it. A slot begins at the present: events that were committed before it
exists are never sent. Where there are such events nothing is created, unless --skip-existing says that they are published or not wanted.`,
		Example: "  walpost slot create --slot orders --table sales.outbox_events --publication orders_outbox",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			create := pgwal.CreateSlot
			if skip {
				create = pgwal.CreateSlotSkipping
			}
			did := "created"
			err := create(cmd.Context(), walConfig(p.cfg))
			if ifMissing && errors.Is(err, pgwal.ErrSlotExists) {
				did, err = "is there already", nil
			}
			if err != nil {
				return slotError(p.cfg, err)
			}
			s, err := readSlot(cmd.Context(), p.cfg)
			if err != nil {
				return err
			}
			p.say("slot %s %s", s.Name, did)
			row := slotRowOf(s)
			return p.print(row, row.table())
		},
	}
	config.Flags(cmd.Flags(), "database-url", "slot", "publication", "table")
	cmd.Flags().BoolVar(&ifMissing, "if-missing", false, "succeed when the slot exists already")
	cmd.Flags().BoolVar(&skip, "skip-existing", false, "never send the events that are in the table now")
	return cmd
}

func newSlotDropCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "drop",
		Short:   "Drop the slot; what it had not sent is never sent",
		Long:    "Drop the slot. Events that it has not sent yet are never sent. It says how much that may be and asks; --yes answers. Stop the relay first.",
		Example: "  walpost slot drop --slot orders",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := readSlot(cmd.Context(), p.cfg)
			if err != nil {
				return err
			}
			p.say("%s", s.Explain())
			if s.Active {
				return conflict("slot %s is in use by server process %d: stop the relay first", s.Name, s.ActivePID)
			}
			deed := fmt.Sprintf("slot %s of database %s will be dropped, and the events in %d bytes of log behind %s never sent",
				s.Name, s.Database, s.UnconfirmedBytes(), s.Confirmed)
			if err := p.confirm(deed); err != nil {
				return err
			}
			if err := slotError(p.cfg, pgwal.DropSlot(cmd.Context(), walConfig(p.cfg))); err != nil {
				return err
			}
			p.say("slot %s dropped", s.Name)
			return nil
		},
	}
	config.Flags(cmd.Flags(), "database-url", "slot")
	return cmd
}

func readSlot(ctx context.Context, cfg config.Config) (pgwal.SlotStatus, error) {
	s, err := pgwal.ReadSlot(ctx, walConfig(cfg))
	return s, slotError(cfg, err)
}

// slotError gives an error about a slot its exit code and says what to run next. A cause that would halt a relay keeps its code.
func slotError(cfg config.Config, err error) error {
	var connect *pgconn.ConnectError
	var halt *relay.HaltError
	switch {
	case errors.As(err, &halt):
		return &exitError{halt.Cause.ExitCode(), fmt.Errorf("%w: %s", halt.Err, halt.Hint)}
	case errors.Is(err, pgwal.ErrNoSlot):
		return notFound("there is no slot %s in database %s: create it with `%s`", cfg.Slot, databaseName(cfg.DatabaseURL),
			relay.Origin{Slot: cfg.Slot}.SlotCommand("create"))
	case errors.Is(err, pgwal.ErrSlotExists):
		return conflict("slot %s exists already: see `%s`, or choose another name with --slot", cfg.Slot, relay.Origin{Slot: cfg.Slot}.SlotCommand("status"))
	case errors.Is(err, relay.ErrStandby):
		return conflict("%w", err)
	case errors.As(err, &connect):
		return databaseError(cfg, err)
	}
	return err
}

// slotRow is the machine-readable state.
type slotRow struct {
	Name             string     `json:"name"`
	Database         string     `json:"database"`
	Plugin           string     `json:"plugin"`
	Active           bool       `json:"active"`
	ActivePID        *int32     `json:"active_pid"`  // null: nobody streams from it
	Application      string     `json:"application"` // of who streams, as that session calls itself
	WALStatus        string     `json:"wal_status"`
	Invalidation     string     `json:"invalidation_reason,omitempty"`
	ConfirmedLSN     string     `json:"confirmed_lsn"`
	RestartLSN       string     `json:"restart_lsn"`
	CurrentLSN       string     `json:"current_lsn"`
	UnconfirmedBytes int64      `json:"unconfirmed_bytes"`
	RetainedBytes    int64      `json:"retained_bytes"`
	SafeBytes        *int64     `json:"safe_bytes"`     // null: no limit is set
	InactiveSince    *time.Time `json:"inactive_since"` // null: active, or not known before PostgreSQL 17
}

func slotRowOf(s pgwal.SlotStatus) slotRow {
	row := slotRow{
		Name: s.Name, Database: s.Database, Plugin: s.Plugin, Active: s.Active, Application: s.ActiveName, WALStatus: s.WALStatus, Invalidation: s.InvalidationReason,
		ConfirmedLSN: s.Confirmed.String(), RestartLSN: s.Restart.String(), CurrentLSN: s.Current.String(),
		UnconfirmedBytes: s.UnconfirmedBytes(), RetainedBytes: s.RetainedBytes(), SafeBytes: s.SafeBytes, InactiveSince: s.InactiveSince,
	}
	if s.Active {
		row.ActivePID = &s.ActivePID
	}
	return row
}

// table is the heading and the line of a table.
func (r slotRow) table() [][]string {
	return [][]string{
		{"SLOT", "DATABASE", "ACTIVE", "WAL STATUS", "CONFIRMED", "UNCONFIRMED BYTES", "RETAINED BYTES"},
		{
			r.Name, r.Database, strconv.FormatBool(r.Active), r.WALStatus, r.ConfirmedLSN,
			strconv.FormatInt(r.UnconfirmedBytes, 10), strconv.FormatInt(r.RetainedBytes, 10),
		},
	}
}
