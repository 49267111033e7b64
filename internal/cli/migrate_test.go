package cli_test

import (
	"strings"
	"testing"

	"github.com/walpost/walpost/internal/pgtest"
)

func TestMigrationsGoUpAndDown(t *testing.T) {
	t.Parallel()
	values := map[string]string{"$URL": pgtest.URL(t)}
	run := func(name string, args ...string) outcome {
		t.Helper()
		return runGolden(t, name, values, append(args, "--database-url", "$URL")...)
	}
	run("migrate_status_empty", "migrate", "status")
	run("maintain_not_migrated", "maintain")
	run("migrate_up", "migrate", "up")
	run("migrate_up_again", "migrate", "up", "--output", "json")
	run("migrate_status", "migrate", "status", "--output", "yaml")
	run("maintain", "maintain", "--ahead-days", "8")
	run("migrate_down_unconfirmed", "migrate", "down", "--set", "app", "--to", "1")
	if got := ok(t, "migrate", "status", "--database-url", values["$URL"]); strings.Contains(got.stdout, "pending") {
		t.Errorf("a migration down that was not confirmed took something back:\n%s", got.stdout)
	}
	run("migrate_down_unknown_version", "migrate", "down", "--set", "app", "--to", "77", "--yes")
	run("migrate_down", "migrate", "down", "--set", "app", "--to", "1", "--yes")
	run("migrate_down_again", "migrate", "down", "--set", "app", "--to", "1", "--yes")
	run("migrate_up_one_set", "migrate", "up", "--set", "app", "--output", "json")
}

func TestADatabaseThatDoesNotLetUsInIsNamed(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	values := map[string]string{
		"$CLOSED":  "postgres://ada:planted@" + closedPort(t) + "/orders",
		"$NOUSER":  strings.Replace(url, "walpost@", "nobody_here:planted@", 1),
		"$NOTHERE": url[:strings.LastIndex(url, "/")] + "/orders?sslmode=disable",
		"$TLS":     strings.Replace(url, "sslmode=disable", "sslmode=verify-full", 1),
	}
	for name, which := range map[string]string{
		"database_unreachable": "$CLOSED", "database_unknown_user": "$NOUSER", "database_missing": "$NOTHERE", "database_without_tls": "$TLS",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runGolden(t, name, values, "migrate", "status", "--database-url", which)
			if strings.Contains(got.stderr, "planted") {
				t.Error("the error shows the password")
			}
		})
	}
}

func TestTheSQLOfAVersionIsPrinted(t *testing.T) {
	t.Parallel()
	runGolden(t, "migrate_sql", nil, "migrate", "sql", "3", "--set", "walpost")
	runGolden(t, "migrate_sql_down", nil, "migrate", "sql", "3", "--set", "walpost", "--down")
	runGolden(t, "migrate_sql_unknown", nil, "migrate", "sql", "77")
}

func TestMaintainRepeatsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	url := pgtest.Migrated(t)
	pool := pgtest.Pool(t, url)
	drop := func() string {
		t.Helper()
		var name string
		if err := pool.QueryRow(t.Context(), `select max(inhrelid::regclass::text) from pg_inherits where inhparent = 'inbox'::regclass and inhrelid::regclass::text <> 'inbox_default'`).Scan(&name); err != nil {
			t.Fatal(err)
		}
		if _, err := pool.Exec(t.Context(), "drop table "+name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	first := drop()
	s := start(t, "maintain", "--every", "20ms", "--database-url", url, "--log-format", "json")
	s.says(t, `"msg":"partition created","partition":"`+first+`"`)
	drop()
	s.says(t, `"msg":"partition created","partition":"`+first+`"`, 2)
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0: %s", code, s.stderr)
	}
}
