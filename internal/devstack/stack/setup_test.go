package stack_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/devstack/stack"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upLimit is long for an Up on a machine that does other things too.
const upLimit = 3 * time.Minute

// folder is one that the server's account reaches, which excludes t.TempDir when root runs the test. What runs on it is stopped when the test ends.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "walpost-stack-")
	if err == nil {
		err = os.Chmod(dir, 0o711)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := stack.Down(context.Background(), dir, io.Discard); err != nil {
			t.Errorf("Down() at the end of the test = %v", err)
		}
		_ = os.RemoveAll(dir) // best effort in the system's temporary folder
	})
	stacktest.Reap(t, dir)
	return dir
}

// config is that of a small stack on ports of its own.
func config(t *testing.T) stack.Config {
	t.Helper()
	stacktest.Artifacts(t) // or skip
	return stack.Config{
		Dir: folder(t), PGBin: os.Getenv("WALPOST_PG_BIN"), PostgresAddr: stacktest.Addr(t), KafkaAddr: stacktest.Addr(t),
		ControllerPort: portOf(t, stacktest.Addr(t)), ConnectAddr: stacktest.Addr(t), KafkaHeapMiB: 256, ConnectHeapMiB: 256, Progress: t.Output(),
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// up starts the stack, which must work.
func up(t *testing.T, cfg stack.Config) stack.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upLimit)
	defer cancel()
	state, err := stack.Up(ctx, cfg)
	if err != nil {
		t.Fatalf("Up() = %v", err)
	}
	if !state.Healthy() {
		t.Fatalf("Up() = %+v, want all servers healthy", state)
	}
	return state
}

func read(t *testing.T, dir string) stack.State {
	t.Helper()
	state, err := stack.Read(t.Context(), dir)
	if err != nil {
		t.Fatalf("Read() = %v", err)
	}
	return state
}

// crash ends the server as kill -9 does.
func crash(t *testing.T, s stack.Server) {
	t.Helper()
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", s.Name, err)
	}
}

func pids(state stack.State) map[string]int {
	pids := map[string]int{}
	for _, s := range state.Servers {
		pids[s.Name] = s.PID
	}
	return pids
}

// at is a writer that calls then when the text has been written.
type at struct {
	mu   sync.Mutex // guards seen
	seen bytes.Buffer
	text string
	then func()
	once sync.Once
}

// Write implements io.Writer.
func (a *at) Write(p []byte) (int, error) {
	a.mu.Lock()
	a.seen.Write(p)
	reached := strings.Contains(a.seen.String(), a.text)
	a.mu.Unlock()
	if reached {
		a.once.Do(a.then)
	}
	return len(p), nil
}

// exec runs a statement in the stack's database.
func exec(t *testing.T, state stack.State, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), state.DatabaseURL)
	if err != nil {
		t.Fatalf("connect to %s: %v", state.DatabaseURL, err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // the statement has been answered
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func admin(t *testing.T, state stack.State) *kadm.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(state.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

// entries are the names of what lies in the folder.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range list {
		names = append(names, entry.Name())
	}
	return names
}
