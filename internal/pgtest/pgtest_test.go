package pgtest_test

import (
	"testing"

	"github.com/walpost/walpost/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	t.Parallel()
	first, second := pgtest.Pool(t, pgtest.URL(t)), pgtest.Pool(t, pgtest.URL(t))
	if _, err := first.Exec(t.Context(), "create table only_here()"); err != nil {
		t.Fatal(err)
	}
	var there bool
	if err := second.QueryRow(t.Context(), "select to_regclass('only_here') is not null").Scan(&there); err != nil || there {
		t.Errorf("table of the first database in the second: %v, %v", there, err)
	}
}

func TestAKilledServerKeepsItsData(t *testing.T) {
	t.Parallel()
	srv := pgtest.StartServer(t)
	url := srv.URL(t)
	if _, err := pgtest.DB(t, url).ExecContext(t.Context(), "create table kept()"); err != nil {
		t.Fatal(err)
	}
	srv.Kill9(t)
	srv.Start(t)
	if _, err := pgtest.DB(t, url).ExecContext(t.Context(), "select from kept"); err != nil {
		t.Errorf("select after kill -9: %v", err)
	}
}

func TestMigratedDatabasesAreReadyAndApart(t *testing.T) {
	t.Parallel()
	first, second := pgtest.Pool(t, pgtest.Migrated(t)), pgtest.Pool(t, pgtest.Migrated(t))
	if _, err := first.Exec(t.Context(), `insert into inbox_consumer (name) values ('one')`); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := second.QueryRow(t.Context(), `select count(*) from inbox_consumer`).Scan(&rows); err != nil || rows != 0 {
		t.Errorf("rows of the first database in the second = %d, %v, want none", rows, err)
	}
}
