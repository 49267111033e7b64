package migrations_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestUpAfterDownMakesTheSameSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	first := schema(t, db)
	if !slices.Contains(first, "r outbox_events_default") || !slices.Contains(first, "publication walpost_outbox") {
		t.Fatalf("schema after Up lacks the outbox:\n%s", strings.Join(first, "\n"))
	}
	for _, set := range []migrations.Set{migrations.App, migrations.Walpost} {
		if _, err := migrations.Down(t.Context(), db, set, 0); err != nil {
			t.Fatalf("Down(%s, 0): %v", set, err)
		}
	}
	if left := schema(t, db); len(left) > 0 {
		t.Errorf("schema after Down(0) = %v, want nothing", left)
	}
	up(t, db)
	if diff := cmp.Diff(first, schema(t, db)); diff != "" {
		t.Errorf("schema after Up, Down, Up (-first +second):\n%s", diff)
	}
}

func TestEachVersionGoesDownAndUpByItself(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	applied := up(t, db)
	for _, step := range slices.Backward(applied) {
		down, err := migrations.Down(t.Context(), db, step.Set, step.Version-1)
		if err != nil || len(down) != 1 || down[0].Version != step.Version || down[0].Set != step.Set || !down[0].Down {
			t.Fatalf("Down(%s, %d) = %v, %v, want version %d taken back", step.Set, step.Version-1, down, err, step.Version)
		}
	}
	if again := up(t, db); len(again) != len(applied) {
		t.Errorf("Up after all went down = %v, want %d versions", again, len(applied))
	}
}

func TestSeveralStartsAtOnceApplyOnce(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	const starts = 10
	applied := make([][]migrations.Applied, starts)
	begin := time.Now()
	var group errgroup.Group
	for i := range starts {
		db := pgtest.DB(t, url)
		group.Go(func() (err error) {
			applied[i], err = migrations.Up(t.Context(), db)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("Up, %d at once: %v", starts, err)
	}
	t.Logf("%d starts took %v", starts, time.Since(begin))
	count := make(map[string]int)
	for _, a := range slices.Concat(applied...) {
		count[a.Name]++
	}
	want := make(map[string]int)
	for _, s := range status(t, pgtest.DB(t, url)) {
		want[s.Name] = 1
	}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("times each version was applied (-want +got):\n%s", diff)
	}
}

func TestUpOfAMigratedDatabaseAppliesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	if again := up(t, db); len(again) != 0 {
		t.Errorf("second Up = %v, want nothing", again)
	}
}

func TestADatabaseAheadOfTheBinaryIsLeftAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	exec(t, db, `insert into walpost_migrations (version_id, is_applied) values (99999, true)`)
	if applied, err := migrations.Up(t.Context(), db); err != nil || len(applied) != 0 {
		t.Errorf("Up of a newer database = %v, %v, want nothing", applied, err)
	}
}

func TestSetsStandApart(t *testing.T) {
	t.Parallel()
	for set, tables := range map[migrations.Set][2]string{
		migrations.Walpost: {"outbox_events", "users"},
		migrations.App:     {"users", "outbox_events"},
	} {
		t.Run(string(set), func(t *testing.T) {
			t.Parallel()
			db := pgtest.DB(t, pgtest.URL(t))
			for _, a := range up(t, db, set) {
				if a.Set != set {
					t.Errorf("Up(%s) applied %s", set, a.Name)
				}
			}
			if !exists(t, db, tables[0]) || exists(t, db, tables[1]) {
				t.Errorf("Up(%s): %s there = %v, %s there = %v", set, tables[0], exists(t, db, tables[0]), tables[1], exists(t, db, tables[1]))
			}
		})
	}
}

func TestAFailureKeepsWhatWasAppliedBeforeAndIsRepaired(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	exec(t, db, `create table inbox ()`)
	applied, err := migrations.Up(t.Context(), db, migrations.Walpost)
	if err == nil || len(applied) != 2 {
		t.Fatalf("Up with a table in the way = %v, %v, want two versions and an error", applied, err)
	}
	exec(t, db, `drop table inbox`)
	if rest := up(t, db, migrations.Walpost); len(rest) != 2 || rest[0].Version != 3 {
		t.Errorf("Up after the repair = %v, want version 3 and what follows", rest)
	}
}

func TestStatusReadsOnly(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	for _, s := range status(t, db) {
		if !s.Pending() {
			t.Errorf("Status of an empty database: %v is applied", s)
		}
	}
	if exists(t, db, "walpost_migrations") || exists(t, db, "app_migrations") {
		t.Error("Status made a version table")
	}
}

func TestStatusTellsWhenAVersionWasApplied(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	before := time.Now().Add(-time.Minute)
	up(t, db, migrations.Walpost)
	var got []string
	for _, s := range status(t, db) {
		if s.AppliedAt.Before(before) == (s.Set == migrations.Walpost) || s.AppliedAt.After(time.Now().Add(time.Minute)) {
			t.Errorf("%s applied at %v", s.Name, s.AppliedAt)
		}
		got = append(got, fmt.Sprintf("%s %d %v", s.Set, s.Version, s.Pending()))
	}
	want := []string{"walpost 1 false", "walpost 2 false", "walpost 3 false", "walpost 4 false", "app 1 true", "app 2 true", "app 3 true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Status (-want +got):\n%s", diff)
	}
}

func TestSQLRunsByHandBothWays(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	var downs []string
	for _, s := range status(t, pgtest.DB(t, pool.Config().ConnString())) {
		up, down, err := migrations.SQL(s.Set, s.Version)
		if err != nil || strings.Contains(up+down, "+goose") {
			t.Fatalf("SQL(%s, %d) = %q, %q, %v", s.Set, s.Version, up, down, err)
		}
		downs = append(downs, down)
		if _, err := conn.Conn().PgConn().Exec(t.Context(), up).ReadAll(); err != nil {
			t.Fatalf("run by hand: %v:\n%s", err, up)
		}
	}
	for _, down := range slices.Backward(downs) {
		if _, err := conn.Conn().PgConn().Exec(t.Context(), down).ReadAll(); err != nil {
			t.Fatalf("run by hand: %v:\n%s", err, down)
		}
	}
	if left := schema(t, pgtest.DB(t, pool.Config().ConnString())); len(left) > 0 {
		t.Errorf("schema after every SQL by hand and back = %v, want nothing", left)
	}
}

func TestAnOwnerWhoIsNoSuperuserMigratesIntoTheSchemaOfTheSearchPath(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	admin := pgtest.DB(t, address)
	const owner = "migrations_owner"
	exec(t, admin, `create role `+owner+` login`)
	t.Cleanup(func() {
		for _, statement := range []string{`drop owned by ` + owner + ` cascade`, `drop role ` + owner} {
			if _, err := admin.ExecContext(context.Background(), statement); err != nil {
				t.Errorf("%s: %v", statement, err)
			}
		}
	})
	exec(t, admin, `do $$ begin execute format('grant create on database %I to `+owner+`', current_database()); end $$`)
	exec(t, admin, `create schema shop authorization `+owner)
	db := pgtest.DB(t, strings.Replace(address, "walpost@", owner+"@", 1)+"&search_path=shop")
	for range 2 {
		up(t, db)
		if !exists(t, admin, "shop.outbox_events") || exists(t, admin, "public.outbox_events") {
			t.Error("Up with search_path shop did not make shop.outbox_events alone")
		}
		for _, set := range []migrations.Set{migrations.App, migrations.Walpost} {
			if _, err := migrations.Down(t.Context(), db, set, 0); err != nil {
				t.Errorf("Down(%s, 0): %v", set, err)
			}
		}
	}
}

func TestUnknownSetsAndVersionsAreErrors(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, "postgres://127.0.0.1:1/never-dialled")
	for name, c := range map[string]struct {
		call func(context.Context) error
		want error
	}{
		"Up":      {func(ctx context.Context) error { _, err := migrations.Up(ctx, db, "none"); return err }, migrations.ErrUnknownSet},
		"Down":    {func(ctx context.Context) error { _, err := migrations.Down(ctx, db, "", 0); return err }, migrations.ErrUnknownSet},
		"Status":  {func(ctx context.Context) error { _, err := migrations.Status(ctx, db, "../app"); return err }, migrations.ErrUnknownSet},
		"SQL set": {func(context.Context) error { _, _, err := migrations.SQL("none", 1); return err }, migrations.ErrUnknownSet},
		"SQL":     {func(context.Context) error { _, _, err := migrations.SQL(migrations.App, 99); return err }, migrations.ErrUnknownVersion},
	} {
		if err := c.call(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s = %v, want %v", name, err, c.want)
		}
	}
}

func up(t *testing.T, db *sql.DB, sets ...migrations.Set) []migrations.Applied {
	t.Helper()
	applied, err := migrations.Up(t.Context(), db, sets...)
	if err != nil {
		t.Fatalf("Up(%v): %v", sets, err)
	}
	return applied
}

func status(t *testing.T, db *sql.DB) []migrations.State {
	t.Helper()
	states, err := migrations.Status(t.Context(), db)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	return states
}

// schema lists what the migrations could have made, without the version tables, which stay.
func schema(t *testing.T, db *sql.DB) []string {
	t.Helper()
	return query[string](t, db, `
		select c.relkind::text || ' ' || c.relname from pg_class c
		where c.relnamespace = 'public'::regnamespace and c.relname !~ '^(walpost|app)_migrations'
		union all
		select 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) from pg_constraint
		where connamespace = 'public'::regnamespace and conrelid::regclass::text !~ '^(walpost|app)_migrations'
		union all
		select 'column ' || attrelid::regclass || ' ' || attname || ' ' || atttypid::regtype || ' ' || attnotnull from pg_attribute
		join pg_class c on c.oid = attrelid
		where c.relnamespace = 'public'::regnamespace and c.relname !~ '^(walpost|app)_migrations' and attnum > 0
		union all
		select 'function ' || oid::regprocedure from pg_proc where pronamespace = 'public'::regnamespace
		union all
		select 'publication ' || pubname from pg_publication
		order by 1`)
}

func exists(t *testing.T, db *sql.DB, table string) bool {
	t.Helper()
	return query[bool](t, db, `select to_regclass($1) is not null`, table)[0]
}

func exec(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func query[T any](t *testing.T, db *sql.DB, statement string, args ...any) []T {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var values []T
	for rows.Next() {
		var v T
		if err := rows.Scan(&v); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		values = append(values, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return values
}
