package cli

import (
	"context"
	"database/sql"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/migrations"
)

func newMaintainCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "maintain",
		Short: "Make the partitions of the coming days",
		Long: `Make the missing day partitions of the outbox and the inbox, from yesterday to --ahead-days from now. Run it at least once a day, from cron or
with --every. A day without a partition loses nothing: its rows go to the default partition.`,
		Example: "  walpost maintain --every 1h",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withDB(cmd.Context(), p.cfg, func(db *sql.DB) error {
				if p.cfg.Every == 0 {
					return p.maintainOnce(cmd.Context(), db)
				}
				return p.maintain(cmd.Context(), db)
			})
		},
	}
	config.Flags(cmd.Flags(), "database-url", "ahead-days", "every")
	return cmd
}

func (p *program) maintainOnce(ctx context.Context, db *sql.DB) error {
	days, err := migrations.CreatePartitions(ctx, db, p.cfg.AheadDays)
	if err != nil {
		return err
	}
	type row struct {
		Table string                    `json:"table"`
		Name  string                    `json:"name"`
		State migrations.PartitionState `json:"state"`
	}
	values, rows := []row{}, [][]string{{"TABLE", "PARTITION", "STATE"}}
	for _, d := range days {
		values = append(values, row(d))
		rows = append(rows, []string{d.Table, d.Name, string(d.State)})
	}
	return p.print(values, rows)
}

// maintain repeats the work until ctx ends. A failure is for the log: the next round may succeed.
func (p *program) maintain(ctx context.Context, db *sql.DB) error {
	tick := time.NewTicker(p.cfg.Every)
	defer tick.Stop()
	for {
		days, err := migrations.CreatePartitions(ctx, db, p.cfg.AheadDays)
		for _, d := range days {
			switch d.State {
			case migrations.PartitionCreated:
				p.log.Info("partition created", "partition", d.Name)
			case migrations.PartitionInDefault, migrations.PartitionNameTaken:
				p.log.Warn("partition not created", "partition", d.Name, "state", string(d.State))
			}
		}
		if err != nil && ctx.Err() == nil {
			p.log.Error("partitions could not be created", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
