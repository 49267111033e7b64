package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/migrations"
)

func newMigrateCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{
		Use:   "migrate",
		Short: "Make, change and remove the tables",
		Long: `Make, change and remove the tables. There are two sets: walpost (outbox, publication, inbox) and app (the reference application).
Several processes may migrate at once: each version is applied once.`,
	}, newMigrateUpCommand(p), newMigrateDownCommand(p), newMigrateStatusCommand(p), newMigrateSQLCommand(p))
}

func newMigrateUpCommand(p *program) *cobra.Command {
	var set string
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Bring the tables to the newest version",
		Example: "  walpost migrate up --database-url postgres://owner@db/orders --set walpost",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sets, err := parseSets(set)
			if err != nil {
				return err
			}
			return withDB(cmd.Context(), p.cfg, func(db *sql.DB) error {
				applied, err := migrations.Up(cmd.Context(), db, sets...)
				return errors.Join(p.printApplied(applied), err)
			})
		},
	}
	config.Flags(cmd.Flags(), "database-url")
	addSetFlag(cmd, &set, "all")
	return cmd
}

func newMigrateDownCommand(p *program) *cobra.Command {
	var set string
	var to int64
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Take versions back, with the data in their tables",
		Long: `Take back the versions above --to, newest first, with the data in their tables. It says what it will drop and asks; --yes answers.
--to 0 takes back all of them.`,
		Example: "  walpost migrate down --set app --to 2",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if set == "" || set == "all" || !cmd.Flags().Changed("to") {
				return misused("migrate down needs a set and a version: --set walpost or --set app, and --to with the last version to keep, 0 for none")
			}
			sets, err := parseSets(set)
			if err != nil {
				return err
			}
			return withDB(cmd.Context(), p.cfg, func(db *sql.DB) error { return p.migrateDown(cmd.Context(), db, sets[0], to) })
		},
	}
	config.Flags(cmd.Flags(), "database-url")
	addSetFlag(cmd, &set, "")
	cmd.Flags().Int64Var(&to, "to", 0, "last version to keep; 0: none")
	return cmd
}

func newMigrateStatusCommand(p *program) *cobra.Command {
	var set string
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "List the versions and whether the database has them",
		Example: "  walpost migrate status --output json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sets, err := parseSets(set)
			if err != nil {
				return err
			}
			return withDB(cmd.Context(), p.cfg, func(db *sql.DB) error {
				states, err := migrations.Status(cmd.Context(), db, sets...)
				if err != nil {
					return databaseError(p.cfg, err)
				}
				return p.printStates(states)
			})
		},
	}
	config.Flags(cmd.Flags(), "database-url")
	addSetFlag(cmd, &set, "all")
	return cmd
}

func newMigrateSQLCommand(p *program) *cobra.Command {
	var set string
	var down bool
	cmd := &cobra.Command{
		Use:     "sql version",
		Short:   "Print the SQL of a version, for a person to read or to run",
		Example: "  walpost migrate sql 2 --set walpost\n  walpost migrate sql 2 --set walpost --down",
		Args:    oneArg("version"),
		RunE: func(_ *cobra.Command, args []string) error {
			version, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return misused("version %q is not a whole number", args[0])
			}
			forth, back, err := migrations.SQL(migrations.Set(set), version)
			if errors.Is(err, migrations.ErrUnknownSet) {
				return misuse(err)
			}
			if err != nil {
				return notFound("version %d of %s is not there: `walpost migrate status` lists them", version, set)
			}
			if down {
				forth = back
			}
			_, err = io.WriteString(p.stdout, forth)
			return err
		},
	}
	addSetFlag(cmd, &set, string(migrations.Walpost))
	cmd.Flags().BoolVar(&down, "down", false, "the SQL that takes the version back")
	return cmd
}

func addSetFlag(cmd *cobra.Command, set *string, value string) {
	usage := "walpost or app"
	if value == "all" {
		usage = "walpost, app or all"
	}
	cmd.Flags().StringVar(set, "set", value, usage)
}

func parseSets(set string) ([]migrations.Set, error) {
	switch s := migrations.Set(set); s {
	case migrations.Walpost, migrations.App:
		return []migrations.Set{s}, nil
	case "all":
		return []migrations.Set{migrations.Walpost, migrations.App}, nil
	}
	return nil, misused("set %q is not one of walpost, app", set)
}

func withDB(ctx context.Context, cfg config.Config, use func(*sql.DB) error) error {
	db, err := openDB(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // nothing is written any more
	return use(db)
}

// migrateUp brings all tables to their newest version and tells out what it applied.
func migrateUp(ctx context.Context, cfg config.Config, out io.Writer) error {
	return withDB(ctx, cfg, func(db *sql.DB) error {
		applied, err := migrations.Up(ctx, db)
		for _, m := range applied {
			if _, err := fmt.Fprintf(out, "migration %s/%s applied in %s\n", m.Set, m.Name, m.Duration.Round(time.Millisecond)); err != nil {
				return err
			}
		}
		return err
	})
}

func (p *program) migrateDown(ctx context.Context, db *sql.DB, set migrations.Set, to int64) error {
	states, err := migrations.Status(ctx, db, set)
	if err != nil {
		return databaseError(p.cfg, err)
	}
	var doomed []migrations.State
	known := to == 0
	for _, s := range states {
		known = known || s.Version == to
		if s.Version > to && !s.Pending() {
			doomed = append(doomed, s)
		}
	}
	if !known {
		return notFound("version %d of %s is not there: `walpost migrate status` lists them", to, set)
	}
	if len(doomed) == 0 {
		p.say("nothing to take back: %s is at version %d or below", set, to)
		return nil
	}
	p.say("in database %s, newest first:", databaseName(p.cfg.DatabaseURL))
	for i := len(doomed) - 1; i >= 0; i-- {
		_, down, err := migrations.SQL(set, doomed[i].Version)
		if err != nil {
			return err
		}
		p.say("-- %s/%s\n%s", set, doomed[i].Name, down)
	}
	if err := p.confirm(fmt.Sprintf("%d versions of %s and all data in their tables will be dropped", len(doomed), set)); err != nil {
		return err
	}
	applied, err := migrations.Down(ctx, db, set, to)
	return errors.Join(p.printApplied(applied), err)
}

// appliedRow and stateRow are the machine-readable results.
type appliedRow struct {
	Set       migrations.Set `json:"set"`
	Version   int64          `json:"version"`
	Name      string         `json:"name"`
	Direction string         `json:"direction"`
	Seconds   float64        `json:"seconds"`
}

type stateRow struct {
	Set       migrations.Set `json:"set"`
	Version   int64          `json:"version"`
	Name      string         `json:"name"`
	AppliedAt *time.Time     `json:"applied_at"` // null: pending
}

func (p *program) printApplied(applied []migrations.Applied) error {
	if len(applied) == 0 {
		p.say("nothing to do")
	}
	values, rows := []appliedRow{}, [][]string{{"SET", "VERSION", "NAME", "DIRECTION"}}
	for _, m := range applied {
		direction := "up"
		if m.Down {
			direction = "down"
		}
		values = append(values, appliedRow{m.Set, m.Version, m.Name, direction, m.Duration.Seconds()})
		rows = append(rows, []string{string(m.Set), strconv.FormatInt(m.Version, 10), m.Name, direction})
	}
	if len(applied) == 0 {
		rows = nil
	}
	return p.print(values, rows)
}

func (p *program) printStates(states []migrations.State) error {
	values, rows := []stateRow{}, [][]string{{"SET", "VERSION", "NAME", "APPLIED"}}
	for _, s := range states {
		value, at := stateRow{s.Set, s.Version, s.Name, nil}, "pending"
		if !s.Pending() {
			value.AppliedAt, at = &s.AppliedAt, s.AppliedAt.UTC().Format(time.DateTime)
		}
		values = append(values, value)
		rows = append(rows, []string{string(s.Set), strconv.FormatInt(s.Version, 10), s.Name, at})
	}
	return p.print(values, rows)
}
