package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/cli"
	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/devstack/stack"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

// stackLimit is long for a stack that starts on a machine that does other things too.
const stackLimit = 3 * time.Minute

// runStack runs a command of the stack on the folder, in process. What it prints is as if it were called by its name, and the folder were named DIR.
func runStack(t *testing.T, dir string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), stackLimit)
	defer cancel()
	code := cli.Run(ctx, strings.NewReader(""), &stdout, &stderr, []string{"HOME=/home/ada"}, append(append([]string{"stack"}, args...), "--stack-dir", dir))
	if ctx.Err() != nil {
		t.Fatalf("walpost stack %v has not ended within %s: %s", args, stackLimit, stderr.String())
	}
	plain := strings.NewReplacer(dir, "DIR", filepath.Dir(dir), "PARENT", "go run . ", "walpost ", "process "+strconv.Itoa(os.Getpid())+")", "process PID)").Replace
	return outcome{code, plain(stdout.String()), plain(stderr.String())}
}

// stackDir is a folder that the user who runs PostgreSQL can reach; what runs there at the end of the test is stopped.
func stackDir(t *testing.T) string {
	t.Helper()
	dir := devDir(t)
	t.Cleanup(func() {
		if _, err := stack.Down(context.Background(), dir, os.Stderr); err != nil {
			t.Errorf("stop the stack: %v", err)
		}
	})
	stacktest.Reap(t, dir)
	return dir
}

func TestWhatAStackCannotDoIsSaidWithWhatToDo(t *testing.T) {
	t.Parallel()
	stacktest.Artifacts(t) // or skip: Java is looked for before the folder is
	empty, taken, locked, file := t.TempDir(), t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "file")
	if err := os.Mkdir(filepath.Join(taken, "postgres"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := devstack.LockDir(locked)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Release() })
	var busy []string
	for _, flag := range []string{"--postgres-addr", "--kafka-addr", "--connect-addr"} {
		busy = append(busy, flag, twoBusyPorts(t))
	}
	for _, tt := range []struct {
		golden, dir string
		args        []string
		hidden      []string // further arguments, which differ at each run
	}{
		{"stack_status_nothing", empty, []string{"status"}, nil},
		{"stack_down_nothing", empty, []string{"down"}, nil},
		{"stack_reset_nothing", empty, []string{"reset"}, nil},
		{"stack_up_any_port", empty, []string{"up", "--kafka-addr", "127.0.0.1:0"}, nil},
		{"stack_up_every_address", empty, []string{"up", "--connect-addr", ":8083"}, nil},
		{"stack_up_busy_ports", empty, []string{"up"}, busy},
		{"stack_up_foreign_folder", taken, []string{"up"}, nil},
		{"stack_up_locked_folder", locked, []string{"up"}, nil},
		{"stack_up_no_folder", filepath.Join(file, "below"), []string{"up"}, nil},
	} {
		t.Run(tt.golden, func(t *testing.T) {
			t.Parallel()
			golden(t, tt.golden, "walpost stack "+strings.Join(tt.args, " ")+" --stack-dir DIR", runStack(t, tt.dir, append(tt.args, tt.hidden...)...))
		})
	}
}

// twoBusyPorts returns an address whose port is taken, and so is the one above, which Kafka wants too.
func twoBusyPorts(t *testing.T) (addr string) {
	t.Helper()
	for range 100 {
		addr := stacktest.Addr(t)
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			t.Fatal(err)
		}
		first, firstErr := net.Listen("tcp", addr)
		second, secondErr := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(n+1)))
		for _, l := range []net.Listener{first, second} {
			if l != nil {
				t.Cleanup(func() { _ = l.Close() })
			}
		}
		if firstErr == nil && secondErr == nil {
			return addr
		}
	}
	t.Fatal("no two ports in a row are free")
	return ""
}

// Not parallel: it takes the programs away from the whole process.
func TestAStackWithoutJavaSaysWhichToInstall(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	args := []string{"up"}
	for _, flag := range []string{"--postgres-addr", "--kafka-addr", "--connect-addr"} {
		args = append(args, flag, stacktest.Addr(t))
	}
	golden(t, "stack_up_no_java", "walpost stack up --stack-dir DIR", runStack(t, t.TempDir(), args...))
}

// Looking changes nothing, so that the test may look at the real folder.
func TestAStackLiesInTheUsersDataFolder(t *testing.T) {
	t.Parallel()
	want := "/home/ada/.local/share/walpost/stack/kafka/kafka.log"
	if os.Geteuid() == 0 { // whose home is closed to the user that runs PostgreSQL
		want = "/var/lib/walpost/stack/kafka/kafka.log"
	}
	if got := walpost(t, nil, "stack", "status", "--output", "json"); !strings.Contains(got.stdout, strconv.Quote(want)) {
		t.Errorf("stack status: %q, %q, want the log %s", got.stdout, got.stderr, want)
	}
	if got := walpost(t, []string{"HOME="}, "stack", "status"); os.Geteuid() != 0 && got.code != 2 {
		t.Errorf("stack status without a home: exit code %d, %q, want 2", got.code, got.stderr)
	}
}

func TestAStackIsStartedLookedAtStoppedAndDeleted(t *testing.T) {
	t.Parallel()
	stacktest.Artifacts(t)
	dir := stackDir(t)
	addrs := []string{"--postgres-addr", stacktest.Addr(t), "--kafka-addr", stacktest.Addr(t), "--connect-addr", stacktest.Addr(t), "--pg-bin", os.Getenv("WALPOST_PG_BIN")}
	up := stackJSON(t, runStack(t, dir, append([]string{"up", "--kafka-heap", "256", "--connect-heap", "256", "--output", "json"}, addrs...)...), 0)
	if !up.Healthy() || len(up.Started) != 3 || up.Servers[1].HeapMiB != 256 || up.Servers[1].Addr != addrs[3] {
		t.Fatalf("stack up = %+v, want all started as the flags say", up)
	}

	again := runStack(t, dir, "up") // addresses are remembered
	if again.code != 0 || !strings.HasPrefix(again.stderr, "the stack runs already\n") || !strings.Contains(again.stderr, "walpost dev --stack real --stack-dir DIR ") {
		t.Errorf("second stack up: exit code %d, %q, want that it runs already, and what to do next", again.code, again.stderr)
	}
	if got := runStack(t, dir, "up", "--kafka-addr", "127.0.0.1:1"); got.code != 5 || !strings.HasSuffix(got.stderr, "stop the stack first: `walpost stack down --stack-dir DIR`\n") {
		t.Errorf("stack up at another address: exit code %d, %q, want a conflict and what to do", got.code, got.stderr)
	}
	if got := runStack(t, dir, "reset", "--yes"); got.code != 5 || !strings.Contains(got.stderr, "stop it first: `walpost stack down --stack-dir DIR`") {
		t.Errorf("stack reset while it runs: exit code %d, %q, want a conflict and what to do", got.code, got.stderr)
	}
	status := runStack(t, dir, "status")
	if got := strings.Count(status.stdout, "healthy"); status.code != 0 || status.stderr != "" || got != 3 || !strings.HasPrefix(status.stdout, "SERVER ") {
		t.Errorf("stack status: exit code %d, %q, %q, want three healthy servers", status.code, status.stdout, status.stderr)
	}

	if err := syscall.Kill(up.Server(stack.Connect).PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitDown(t, dir, stack.Connect)
	status = runStack(t, dir, "status")
	if want := "walpost: Kafka Connect: it is not running (log: DIR/connect/connect.log)\n"; status.code != 3 || status.stderr != want {
		t.Errorf("stack status without Connect: exit code %d, %q, want 3 and %q", status.code, status.stderr, want)
	}

	down := stackJSON(t, runStack(t, dir, "down", "--output", "json"), 0)
	if diff := cmp.Diff([]string{stack.Kafka, stack.PostgreSQL}, down.Stopped); diff != "" {
		t.Errorf("stopped by stack down differs (-want +got):\n%s", diff)
	}
	if got := runStack(t, dir, "status"); got.code != 4 {
		t.Errorf("stack status after stack down: exit code %d, %q, want 4", got.code, got.stderr)
	}
	golden(t, "stack_reset_unconfirmed", "walpost stack reset --stack-dir DIR", runStack(t, dir, "reset"))
	if got := runStack(t, dir, "reset", "--yes"); got.code != 0 || got.stderr != "deleted\n" {
		t.Errorf("stack reset --yes: exit code %d, %q, want that it is deleted", got.code, got.stderr)
	}
}

func stackJSON(t *testing.T, got outcome, code int) stack.State {
	t.Helper()
	var state stack.State
	if err := json.Unmarshal([]byte(got.stdout), &state); err != nil || got.code != code {
		t.Fatalf("exit code %d, %v: %q, %q, want JSON and exit code %d", got.code, err, got.stdout, got.stderr, code)
	}
	return state
}

func awaitDown(t *testing.T, dir, name string) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		state, err := stack.Read(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if !state.Server(name).Running {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 20 s for the end of %s", name)
		}
	}
}
