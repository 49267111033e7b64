// Package pgtest gives tests a real PostgreSQL: one embedded server a test process, a database a test.
//
// Only _test.go files import it. Where no PostgreSQL is found a test is skipped with a line that says how to provide one; with CI=true that is a
// failure. Databases, and the replication slots in them, are dropped when their test ends. Tests that create replication slots while
// other tests write, or that stop the server, take a server of their own with StartServer.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/freeport"
)

// Server is an embedded server that a test may stop, kill and start again.
type Server struct {
	dir  string
	port int

	template    sync.Once // makes the migrated database that others are copied from
	templateErr error

	mu  sync.Mutex // protects srv
	srv *postgres.Server
}

// StartServer starts a server for this test alone; it is stopped and its data removed when the test ends.
func StartServer(t testing.TB) *Server {
	t.Helper()
	s, err := newServer(t.Context())
	if err != nil {
		skip(t, err)
	}
	t.Cleanup(s.close)
	return s
}

// newServer keeps its data where the server's account can reach it, which excludes t.TempDir. Durability is off: the data dies with the test,
// and a killed server process loses nothing that the operating system holds.
func newServer(ctx context.Context) (*Server, error) {
	dir, err := os.MkdirTemp("", "walpost-pgtest-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	for range 5 { // somebody else may take the port between our look and the server's
		if s.port, err = freeport.Port(); err != nil {
			break
		}
		if err = s.start(ctx); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(err, os.RemoveAll(dir))
}

func (s *Server) start(ctx context.Context) error {
	binaries, err := postgres.Find(ctx, os.Getenv("WALPOST_PG_BIN"), "")
	if err != nil {
		return err
	}
	srv, err := postgres.Start(ctx, postgres.Config{
		Binaries: binaries, Dir: s.data(), Port: s.port,
		Settings: map[string]string{
			"fsync": "off", "full_page_writes": "off", "max_connections": "300", "max_prepared_transactions": "10",
			"unix_socket_directories": s.data(),
			"autovacuum_naptime":      "1h", "shared_buffers": "64MB", "log_min_messages": "error",
		},
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.srv = srv
	return nil
}

func (s *Server) close() {
	_ = s.current().Stop(context.Background()) // a server that was killed by the test is no fault
	_ = os.RemoveAll(s.dir)                    // best effort in the system's temporary folder
}

func (s *Server) current() *postgres.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.srv
}

// PID is the process id of the server's main process.
func (s *Server) PID() int { return s.current().PID() }

// Stop stops the server with a checkpoint.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.current().Stop(t.Context()); err != nil {
		t.Fatalf("stop PostgreSQL: %v", err)
	}
}

// Kill9 ends the server as a crash would.
func (s *Server) Kill9(testing.TB) { s.current().Kill() }

// Start starts the server again, on the same port and data, after Stop or Kill9.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(t.Context()); err != nil {
		t.Fatalf("start PostgreSQL again: %v", err)
	}
}

// Restart stops the server with a checkpoint and starts it again.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	s.Start(t)
}

// StartStandby starts a stopped server as a standby that receives nothing more, and can be read from.
func (s *Server) StartStandby(t testing.TB) {
	t.Helper()
	signal := filepath.Join(s.data(), "standby.signal")
	err := os.WriteFile(signal, nil, 0o666)
	if err == nil {
		err = os.Chmod(signal, 0o666) // whatever the mask: the server's account opens it
	}
	if err != nil {
		t.Fatalf("make PostgreSQL a standby: %v", err)
	}
	s.Start(t)
}

// Promote makes a stopped server a standby and promotes it: the same data, slots included, on a new timeline.
func (s *Server) Promote(t testing.TB) {
	t.Helper()
	s.StartStandby(t)
	s.PromoteStandby(t)
}

// PromoteStandby promotes a server that was started as a standby.
func (s *Server) PromoteStandby(t testing.TB) {
	t.Helper()
	s.admin(t, "select pg_promote(wait_seconds => 30)")
}

// Save copies the data of a stopped server.
func (s *Server) Save(t testing.TB) { s.copyData(t, s.data(), s.data()+".saved") }

// Restore gives a stopped server the data back that Save copied: what was written after it is lost.
func (s *Server) Restore(t testing.TB) { s.copyData(t, s.data()+".saved", s.data()) }

// copyData keeps the owner, which the server insists on.
func (s *Server) copyData(t testing.TB, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatalf("copy PostgreSQL's data: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy PostgreSQL's data: %v: %s", err, out)
	}
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func skip(t testing.TB, err error) {
	t.Helper()
	text := fmt.Sprintf("this test needs PostgreSQL %d or newer: install it (Debian: apt-get install postgresql) or set WALPOST_PG_BIN to its programs: %v", postgres.MinMajor, err)
	if os.Getenv("CI") == "true" || !errors.Is(err, postgres.ErrNotFound) {
		t.Fatal(text)
	}
	t.Skip(text)
}
