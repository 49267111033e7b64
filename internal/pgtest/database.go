package pgtest

import (
	"context"
	"database/sql"
	"fmt"
	neturl "net/url"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql
)

var names atomic.Int64 // numbers databases and slots within this process

// URL is the connection string of a new, empty database on this process's shared server.
func URL(t testing.TB) string {
	t.Helper()
	return sharedServer(t).URL(t)
}

// Local is the same database's connection string through the Unix socket of its server.
func Local(t testing.TB, url string) string {
	t.Helper()
	u, err := neturl.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	var dir string
	if err := Pool(t, url).QueryRow(t.Context(), `show unix_socket_directories`).Scan(&dir); err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("host", dir)
	query.Set("port", u.Port())
	u.Host, u.RawQuery = "", query.Encode()
	return u.String()
}

// URL is the connection string of a new, empty database on the server.
func (s *Server) URL(t testing.TB) string {
	t.Helper()
	return s.create(t, "")
}

func (s *Server) create(t testing.TB, options string) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", names.Add(1))
	s.admin(t, "create database "+name+" "+options)
	t.Cleanup(func() { s.drop(name) })
	return s.current().URL(name)
}

func (s *Server) admin(t testing.TB, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.current().URL("postgres"))
	if err != nil {
		t.Fatalf("connect to the test server: %v", err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // the statement has been answered
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// drop removes a database with its slots and sessions. It fails silently on a server that the test left stopped: its data goes anyway.
func (s *Server) drop(name string) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.current().URL("postgres"))
	if err != nil {
		return
	}
	defer func() { _ = conn.Close(ctx) }()
	_, _ = conn.Exec(ctx, `select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where database = $1 and active`, name)
	_, _ = conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1`, name)
	_, _ = conn.Exec(ctx, "drop database if exists "+name+" with (force)")
}

// Pool connects a pool to the database; it is closed when the test ends.
func Pool(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// DB opens the database through database/sql; it is closed when the test ends.
func DB(t testing.TB, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatalf("open %s: %v", url, err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// SlotName is a slot name that no other test of this process uses. The slot, if one is created, goes with its database.
func SlotName(testing.TB) string { return fmt.Sprintf("slot_%d", names.Add(1)) }
