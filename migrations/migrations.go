// Package migrations holds the numbered SQL of walpost's own tables and of the reference application's, and applies
// it.
//
// It is goose as a library over embedded files, not a schema of one's own choosing: a table of another shape is
// served by the relay's configuration. The two sets have a version table each, so that a user of the library takes
// walpost's tables without the application's.
//
// The invariants it keeps: a released file is never edited; every version has a way down; several processes that
// start at once apply each version once; a database that is ahead of the binary is left alone, so that the old and
// the new binary run side by side.
package migrations

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// Set names a set of migrations. The sets do not depend on each other.
type Set string

// The sets. Where a function takes a list of sets, none means both.
const (
	Walpost Set = "walpost" // the outbox and the inbox; versions in table walpost_migrations
	App     Set = "app"     // the reference application's tables; versions in table app_migrations
)

// Errors that callers may branch on with errors.Is.
var (
	ErrUnknownSet     = errors.New("unknown set of migrations: there are walpost and app")
	ErrUnknownVersion = errors.New("no such version: `walpost migrate status` lists them")
)

// lockProbes bounds the wait for another process that is migrating the same database, which is asked for once a
// second.
const lockProbes = 300

//go:embed walpost/*.sql app/*.sql
var files embed.FS

// Applied is a version that was applied or taken back.
type Applied struct {
	Set      Set
	Version  int64
	Name     string // of the file
	Down     bool   // taken back
	Duration time.Duration
}

// State is a version of a set and whether the database has it.
type State struct {
	Set       Set
	Version   int64
	Name      string    // of the file
	AppliedAt time.Time // zero: pending
}

// Pending reports whether the version is still to be applied.
func (s State) Pending() bool { return s.AppliedAt.IsZero() }

// Up brings the sets to their newest version and returns what it applied: nothing when they were there already. With
// Walpost among the sets it then makes the day partitions from yesterday to DaysAhead days ahead, each time, as
// CreatePartitions does.
//
// Processes that call it at once take turns, for five minutes at most. After an error the versions returned stay
// applied and the next call goes on behind them: each version is a transaction. The role must own the tables and, for
// the publication, may create in the database.
func Up(ctx context.Context, db *sql.DB, sets ...Set) ([]Applied, error) {
	sets = orBoth(sets)
	var applied []Applied
	for _, set := range sets {
		provider, err := newProvider(db, set)
		if err != nil {
			return applied, err
		}
		results, err := provider.Up(ctx)
		applied = append(applied, toApplied(set, results, err)...)
		if err != nil {
			return applied, fmt.Errorf("migrate %s up: %w", set, err)
		}
	}
	if slices.Contains(sets, Walpost) {
		if _, err := CreatePartitions(ctx, db, DaysAhead); err != nil {
			return applied, err
		}
	}
	return applied, nil
}

// Down takes back, newest first, the versions of the set above toVersion; 0 takes back all of them, with the data in
// their tables. Locking, transactions and errors are those of Up.
func Down(ctx context.Context, db *sql.DB, set Set, toVersion int64) ([]Applied, error) {
	provider, err := newProvider(db, set)
	if err != nil {
		return nil, err
	}
	results, err := provider.DownTo(ctx, toVersion)
	applied := toApplied(set, results, err)
	if err != nil {
		return applied, fmt.Errorf("migrate %s down to %d: %w", set, toVersion, err)
	}
	return applied, nil
}

// Status lists the versions of the sets, oldest first. It only reads: a database that was never migrated stays
// untouched.
func Status(ctx context.Context, db *sql.DB, sets ...Set) ([]State, error) {
	var states []State
	for _, set := range orBoth(sets) {
		sources, err := set.sources()
		if err != nil {
			return nil, err
		}
		times, err := appliedAt(ctx, db, set)
		if err != nil {
			return nil, fmt.Errorf("read the versions of %s: %w", set, err)
		}
		for _, src := range sources {
			states = append(states, State{Set: set, Version: src.version, Name: src.name, AppliedAt: times[src.version]})
		}
	}
	return states, nil
}

func orBoth(sets []Set) []Set {
	if len(sets) == 0 {
		return []Set{Walpost, App}
	}
	return sets
}

func (s Set) versionTable() string { return string(s) + "_migrations" }

func (s Set) files() (fs.FS, error) {
	if s != Walpost && s != App {
		return nil, fmt.Errorf("%w, not %q", ErrUnknownSet, string(s))
	}
	return fs.Sub(files, string(s))
}

type source struct {
	version int64
	name    string
}

// sources lists the set's files in the order of their versions.
func (s Set) sources() ([]source, error) {
	fsys, err := s.files()
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, err
	}
	var sources []source
	for _, name := range names {
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, err
		}
		sources = append(sources, source{version, name})
	}
	slices.SortFunc(sources, func(a, b source) int { return cmp.Compare(a.version, b.version) })
	return sources, nil
}

func newProvider(db *sql.DB, set Set) (*goose.Provider, error) {
	fsys, err := set.files()
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, lockProbes))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, fsys,
		goose.WithTableName(set.versionTable()), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
}

// toApplied counts in what was applied before a failure.
func toApplied(set Set, results []*goose.MigrationResult, err error) []Applied {
	var partial *goose.PartialError
	if errors.As(err, &partial) {
		results = partial.Applied
	}
	var applied []Applied
	for _, r := range results {
		applied = append(applied, Applied{
			Set: set, Version: r.Source.Version, Name: path.Base(r.Source.Path), Down: r.Direction == "down", Duration: r.Duration,
		})
	}
	return applied
}

// appliedAt reads the version table itself: goose's own status creates it. The table is the one the search path
// finds, as it is for goose.
func appliedAt(ctx context.Context, db *sql.DB, set Set) (map[int64]time.Time, error) {
	var migrated bool
	if err := db.QueryRowContext(ctx, `select to_regclass($1) is not null`, set.versionTable()).Scan(&migrated); err != nil || !migrated {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, `select version_id, tstamp::timestamptz from `+set.versionTable()+` where is_applied`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err tells what went wrong
	times := make(map[int64]time.Time)
	for rows.Next() {
		var version int64
		var at time.Time
		if err := rows.Scan(&version, &at); err != nil {
			return nil, err
		}
		times[version] = at
	}
	return times, rows.Err()
}
