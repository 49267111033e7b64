package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/devstack/child"
	"github.com/walpost/walpost/internal/devstack/childtest"
	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/freeport"
)

// TestMain runs the tests or, called with the word server, starts a server that should die with this process.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "server" {
		parent(os.Args[2], os.Args[3])
		return
	}
	goleak.VerifyTestMain(m)
}

func parent(dir, port string) {
	ctx := context.Background()
	b, err := postgres.Find(ctx, os.Getenv("WALPOST_PG_BIN"), "")
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	n, _ := strconv.Atoi(port) // 0 is refused by the server
	srv, err := postgres.Start(ctx, postgres.Config{Binaries: b, Dir: dir, Port: n})
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	fmt.Fprintln(os.Stdout, "up")
	<-srv.Exited()
}

func TestAServerStartsServesLogicalDecodingAndStops(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	srv := start(t, cfg)
	if got := query(t, srv, "show wal_level"); got != "logical" {
		t.Errorf("wal_level = %q, want logical", got)
	}
	if srv.Recovered() {
		t.Error("Recovered() on a new data directory = true, want false")
	}
	pid := srv.PID()
	if err := srv.Stop(t.Context()); err != nil {
		t.Fatalf("Stop() = %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d after Stop: signal 0 = %v, want no such process", pid, err)
	}
}

func TestDataSurvivesAKilledServerAndTheNextStartSaysSo(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	srv := start(t, cfg)
	query(t, srv, "create table kept as select 42 as n")
	srv.Kill()

	again := start(t, cfg)
	if got := query(t, again, "select n::text from kept"); got != "42" {
		t.Errorf("row after recovery = %q, want 42", got)
	}
	if !again.Recovered() {
		t.Error("Recovered() after kill -9 = false, want true")
	}
}

func TestAServerLeftBehindIsStoppedByTheNextStart(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	left := start(t, cfg)
	cfg.Port = port(t)
	next := start(t, cfg)
	select {
	case <-left.Exited():
	case <-time.After(10 * time.Second):
		t.Fatal("the server left behind still runs after 10 s")
	}
	if got := query(t, next, "select 1::text"); got != "1" {
		t.Errorf("select 1 = %q", got)
	}
}

func TestAServerDiesWithItsParent(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	attach := func() (childtest.Server, error) { return postgres.Attach(t.Context(), cfg.Dir) }
	childtest.DiesWithItsParent(t, 10*time.Second, attach, "server", cfg.Dir, strconv.Itoa(cfg.Port))
	if _, err := os.Stat(filepath.Join(cfg.Dir, "postmaster.pid")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("postmaster.pid: %v, want it gone: the server should have shut down, not died", err)
	}
}

func TestADetachedServerIsFoundAgain(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Detach = true
	started := start(t, cfg)
	srv, err := postgres.Attach(t.Context(), cfg.Dir)
	if err != nil {
		t.Fatalf("Attach() = %v", err)
	}
	if got := query(t, srv, "select 1::text"); got != "1" || srv.PID() != started.PID() {
		t.Errorf("select 1 on process %d = %q, want 1 on process %d", srv.PID(), got, started.PID())
	}
	if !strings.Contains(srv.Log(), "ready to accept connections") {
		t.Errorf("Log() = %q, want the server's words", srv.Log())
	}
	var running *child.RunningError
	if _, err := postgres.Start(t.Context(), cfg); !errors.As(err, &running) || running.PID != srv.PID() {
		t.Errorf("Start() on its data directory = %v, want a RunningError with process %d", err, srv.PID())
	}
	if err := srv.Stop(t.Context()); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	if _, err := postgres.Attach(t.Context(), cfg.Dir); !errors.Is(err, child.ErrNotRunning) {
		t.Errorf("Attach() after Stop = %v, want ErrNotRunning", err)
	}
}

func TestStartNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	t.Run("a taken port is in the error with the server's own words", func(t *testing.T) {
		t.Parallel()
		cfg := config(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		cfg.Port = l.Addr().(*net.TCPAddr).Port
		if _, err := postgres.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "Address already in use") {
			t.Errorf("Start() = %v, want the taken address", err)
		}
	})
	t.Run("data of another major version is refused and kept", func(t *testing.T) {
		t.Parallel()
		cfg := config(t)
		if err := start(t, cfg).Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(cfg.Dir, "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := postgres.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "was made by PostgreSQL 9") {
			t.Errorf("Start() = %v, want the version of the data", err)
		}
		if _, err := os.Stat(filepath.Join(cfg.Dir, "base")); err != nil {
			t.Errorf("the refused data is gone: %v", err)
		}
	})
	t.Run("a folder with somebody's files is refused and kept", func(t *testing.T) {
		t.Parallel()
		cfg := config(t)
		file := filepath.Join(cfg.Dir, "main.c")
		if err := os.Mkdir(cfg.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := postgres.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "holds something else") {
			t.Errorf("Start() = %v, want the foreign folder refused", err)
		}
		if _, err := os.Stat(file); err != nil {
			t.Errorf("the foreign file is gone: %v", err)
		}
	})
	t.Run("a folder closed to the server's user is named", func(t *testing.T) {
		t.Parallel()
		if os.Geteuid() != 0 {
			return // another user runs the server as himself: there is nothing to hand over
		}
		cfg := config(t)
		closed := filepath.Join(filepath.Dir(cfg.Dir), "closed")
		if err := os.Mkdir(closed, 0o700); err != nil {
			t.Fatal(err)
		}
		cfg.Dir = filepath.Join(closed, "data")
		if _, err := postgres.Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), closed+" is closed to user") {
			t.Errorf("Start() = %v, want the closed folder", err)
		}
	})
}

func TestFind(t *testing.T) {
	t.Parallel()
	if _, err := postgres.Find(t.Context(), t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "no program initdb") {
		t.Errorf("Find(empty folder) = %v, want the missing program", err)
	}
	b := binaries(t)
	if again, err := postgres.Find(t.Context(), b.Dir, ""); err != nil || again.Version != b.Version {
		t.Errorf("Find(%s) = %v, %v, want version %s", b.Dir, again, err, b.Version)
	}
}

func TestAFetchedPostgreSQLRuns(t *testing.T) {
	t.Parallel()
	if os.Getenv("WALPOST_TEST_FETCH") == "" && os.Getenv("CI") != "true" {
		t.Skip("downloads 23 MB: set WALPOST_TEST_FETCH=1")
	}
	cfg := config(t)
	var progress strings.Builder
	b, err := postgres.Fetch(t.Context(), filepath.Join(filepath.Dir(cfg.Dir), "fetched"), postgres.FetchVersion, &progress)
	if err != nil {
		t.Fatalf("Fetch() = %v", err)
	}
	if !strings.Contains(progress.String(), "23 MB") {
		t.Errorf("progress = %q, want the size", progress.String())
	}
	cfg.Binaries = b
	if got := query(t, start(t, cfg), "show server_version"); !strings.HasPrefix(b.Version, got) {
		t.Errorf("server_version = %q, want %s", got, b.Version)
	}
}

func config(t *testing.T) postgres.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "walpost-postgres-") // t.TempDir is closed to the server's user when root runs the test
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return postgres.Config{Binaries: binaries(t), Dir: filepath.Join(dir, "data"), Port: port(t), Settings: map[string]string{"fsync": "off"}}
}

func binaries(t *testing.T) postgres.Binaries {
	t.Helper()
	b, err := postgres.Find(t.Context(), os.Getenv("WALPOST_PG_BIN"), "")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skipf("install PostgreSQL or set WALPOST_PG_BIN: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func port(t *testing.T) int {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return resolved.Port
}

func start(t *testing.T, cfg postgres.Config) *postgres.Server {
	t.Helper()
	srv, err := postgres.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	t.Cleanup(func() { _ = srv.Stop(context.Background()) })
	return srv
}

func query(t *testing.T, srv *postgres.Server, statement string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), srv.URL("postgres"))
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(t.Context())
	var text string
	if strings.HasPrefix(statement, "create") {
		_, err = conn.Exec(t.Context(), statement)
	} else {
		err = conn.QueryRow(t.Context(), statement).Scan(&text)
	}
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return text
}
