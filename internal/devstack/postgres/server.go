package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/walpost/walpost/internal/devstack/child"
)

// User is the superuser of a server that Start made; it has no password.
const User = "walpost"

const (
	startTimeout = 60 * time.Second // crash recovery of a large data directory may take long
	stopTimeout  = 4 * time.Second  // then the server is stopped without a checkpoint, which costs recovery at the next start
)

// Config says what Start starts.
type Config struct {
	Binaries Binaries
	Dir      string            // the data directory; made when missing. Beside it lie Dir.process and, of a detached server, Dir.log
	Port     int               // on 127.0.0.1; 0 is not allowed
	Settings map[string]string // further server settings, for example "fsync": "off"; default none
	Log      io.Writer         // the server's log; default discarded; not used when it is detached
	Detach   bool              // the server outlives this process and is found again with Attach; default false
}

// Server is a running server. Its methods are safe for concurrent use.
type Server struct {
	cfg       Config
	runAs     *account
	recovered bool
	proc      *child.Process
}

// Start makes the data directory when there is none, stops a server that an earlier process left on it, starts the server and
// returns when it accepts connections. The server can serve logical replication. Unless it is detached it ends with this process, even a killed one
// (at once on Linux, at the next Start elsewhere). It returns a *child.RunningError when a detached server runs on the data directory.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	runAs, err := serverAccount()
	if err != nil {
		return nil, err
	}
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, runAs: runAs}
	if err := s.initialise(ctx); err != nil {
		return nil, err
	}
	if err := s.evict(ctx); err != nil {
		return nil, err
	}
	if err := s.launch(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Attach finds the server that runs on the data directory, whoever started it. It returns child.ErrNotRunning when there is none. The watch behind
// Exited ends with ctx.
func Attach(ctx context.Context, dir string) (*Server, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	proc, err := child.Attach(ctx, recordOf(dir))
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(proc.Addr())
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL on %s: %w", dir, err)
	}
	s := &Server{cfg: Config{Dir: dir, Detach: proc.Detached()}, proc: proc}
	if s.cfg.Port, err = strconv.Atoi(port); err != nil {
		return nil, fmt.Errorf("PostgreSQL on %s: %w", dir, err)
	}
	return s, nil
}

func recordOf(dir string) string { return dir + ".process" }

// URL is the connection string of a database on the server.
func (s *Server) URL(database string) string { return URL(s.Addr(), database) }

// URL is the connection string of a database on a server that Start made, at the address.
func URL(addr, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(User), Host: addr, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Addr is where it listens, host:port on loopback.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.cfg.Port)) }

// PID is the process id of the server.
func (s *Server) PID() int { return s.proc.PID() }

// Exited is closed when the server has ended, wanted or not.
func (s *Server) Exited() <-chan struct{} { return s.proc.Exited() }

// Log returns the last lines of the server's log.
func (s *Server) Log() string { return s.proc.Log() }

// Stop ends all sessions, stops the server with a checkpoint and waits for it. When that takes longer than four seconds or ctx ends,
// the server is stopped without one, which costs recovery at the next start and loses nothing.
func (s *Server) Stop(ctx context.Context) error { return s.proc.Stop(ctx) }

// Kill ends the server's main process with SIGKILL, as a crash would, and waits for that; its children end by themselves a moment later.
func (s *Server) Kill() { s.proc.Kill() }

// initialise runs initdb into a folder beside the data directory and renames it, so that a crash leaves no half-made one.
func (s *Server) initialise(ctx context.Context) error {
	_, err := os.Stat(filepath.Join(s.cfg.Dir, "PG_VERSION"))
	if err == nil {
		return s.checkVersion()
	}
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("data directory of PostgreSQL: %w", err)
	}
	if err := os.Remove(s.cfg.Dir); err != nil && !errors.Is(err, os.ErrNotExist) { // only an empty folder goes
		return fmt.Errorf("folder %s holds something else than PostgreSQL's data: choose another data directory: %w", s.cfg.Dir, err)
	}
	fresh := s.cfg.Dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("half-made data directory of PostgreSQL: %w", err)
	}
	if err := s.runAs.prepareDir(fresh, s.cfg.Binaries.Dir); err != nil {
		return fmt.Errorf("data directory of PostgreSQL: %w", err)
	}
	initdb := s.program(ctx, "initdb", "-D", fresh, "-U", User, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb in %s: %w: %s", fresh, err, bytes.TrimSpace(out))
	}
	if err := os.Rename(fresh, s.cfg.Dir); err != nil {
		return fmt.Errorf("data directory of PostgreSQL: %w", err)
	}
	return nil
}

func (s *Server) checkVersion() error {
	content, err := os.ReadFile(filepath.Join(s.cfg.Dir, "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("data directory of PostgreSQL: %w", err)
	}
	if have := strings.TrimSpace(string(content)); majorIn(have) != majorIn(s.cfg.Binaries.Version) {
		return fmt.Errorf("the data in %s was made by PostgreSQL %s and the programs in %s are version %s: start with programs of version %s, or begin anew with an empty data directory",
			s.cfg.Dir, have, s.cfg.Binaries.Dir, s.cfg.Binaries.Version, have)
	}
	return nil
}

// evict stops a server that is still there after its parent was killed. Where our record of it is missing, pg_ctl tells it from a foreign process
// that has got the same id.
func (s *Server) evict(ctx context.Context) error {
	_, err := os.Stat(filepath.Join(s.cfg.Dir, "postmaster.pid"))
	s.recovered = err == nil
	if err := child.Evict(ctx, recordOf(s.cfg.Dir)); err != nil {
		return err
	}
	if !s.recovered || !s.running(ctx) {
		return nil // the server replaces a stale file when it starts
	}
	stop := s.program(ctx, "pg_ctl", "stop", "-D", s.cfg.Dir, "-m", "fast", "-w", "-t", "30")
	if out, err := stop.CombinedOutput(); err != nil && s.running(ctx) {
		return fmt.Errorf("stop the PostgreSQL server left on %s: %w: %s", s.cfg.Dir, err, bytes.TrimSpace(out))
	}
	return nil
}

func (s *Server) running(ctx context.Context) bool {
	return s.program(ctx, "pg_ctl", "status", "-D", s.cfg.Dir).Run() == nil
}

// Recovered reports whether Start met a server of an earlier run, or the traces of its crash, and dealt with it.
func (s *Server) Recovered() bool { return s.recovered }

// launch starts the server and waits until it accepts connections. The children of a killed server hold its shared memory for a moment;
// a start that fails for that reason is repeated.
func (s *Server) launch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if err := s.spawn(ctx); err != nil {
			return err
		}
		err := s.proc.Await(ctx, 10*time.Millisecond, s.ready)
		if err == nil {
			return nil
		}
		s.Kill()
		if !strings.Contains(s.Log(), "pre-existing shared memory block") || ctx.Err() != nil {
			return err
		}
	}
}

func (s *Server) spawn(ctx context.Context) error {
	args := []string{
		"-D", s.cfg.Dir, "-p", strconv.Itoa(s.cfg.Port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "wal_level=logical", "-c", "max_wal_senders=20", "-c", "max_replication_slots=20",
	}
	for name, value := range s.cfg.Settings {
		args = append(args, "-c", name+"="+value)
	}
	var err error
	s.proc, err = child.Start(ctx, child.Command{
		Name: "PostgreSQL", Path: filepath.Join(s.cfg.Binaries.Dir, "postgres"), Args: args, Credential: s.runAs.credential(),
		Addr: s.Addr(), Record: recordOf(s.cfg.Dir),
		Stop: []child.Step{
			{Signal: syscall.SIGINT, Patience: stopTimeout}, // fast shutdown; SIGTERM would wait for clients
			{Signal: syscall.SIGQUIT, Patience: stopTimeout},
		},
		Log: s.cfg.Log, Orphan: syscall.SIGINT, Detach: s.cfg.Detach, Output: s.cfg.Dir + ".log",
	})
	return err
}

// program prepares one of PostgreSQL's programs, run by the server's account and outside our process group.
func (s *Server) program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.cfg.Binaries.Dir, name), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.runAs.credential()}
	cmd.Dir = "/" // the account may not be allowed into ours
	return cmd
}

// ready reads postmaster.pid, whose eighth line becomes "ready" when the server accepts connections.
// https://www.postgresql.org/docs/current/storage-file-layout.html
func (s *Server) ready(context.Context) error {
	content, _ := os.ReadFile(filepath.Join(s.cfg.Dir, "postmaster.pid")) // not there yet: not ready
	lines := strings.Split(string(content), "\n")
	if len(lines) <= 7 || lines[0] != strconv.Itoa(s.PID()) || strings.TrimSpace(lines[7]) != "ready" {
		return errors.New("postmaster.pid does not say that it is")
	}
	return nil
}
