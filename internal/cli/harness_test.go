package cli_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/cli"
	"github.com/walpost/walpost/internal/freeport"
	"github.com/walpost/walpost/internal/pgtest"
)

var update = flag.Bool("update", false, "accept what the commands print as the goldens")

func TestMain(m *testing.M) { pgtest.Main(m) }

// runLimit is long for a command that is not a server.
const runLimit = time.Minute

// outcome is how a command ended and what it printed.
type outcome struct {
	code           int
	stdout, stderr string
}

// walpost runs a command in process to its end, with nothing from the environment of the test.
func walpost(t *testing.T, environ []string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeoutCause(t.Context(), runLimit, fmt.Errorf("walpost %v has not ended within %s", args, runLimit))
	defer cancel()
	code := cli.Run(ctx, strings.NewReader("y\n"), &stdout, &stderr, append([]string{"HOME=/home/ada"}, environ...), args)
	if ctx.Err() != nil {
		t.Fatalf("%v: %s", context.Cause(ctx), stderr.String())
	}
	return outcome{code, stdout.String(), stderr.String()}
}

// ok runs a command that must succeed.
func ok(t *testing.T, args ...string) outcome {
	t.Helper()
	got := walpost(t, nil, args...)
	if got.code != 0 {
		t.Fatalf("walpost %s: exit code %d: %s", strings.Join(args, " "), got.code, got.stderr)
	}
	return got
}

// varying is what differs between two runs of the same test.
var varying = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`\btest_\d+`), "DATABASE"},
	{regexp.MustCompile(`\bslot_\d+`), "SLOT"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?`), "TIME"},
	{regexp.MustCompile(`_20\d{6}\b`), "_YYYYMMDD"},
	{regexp.MustCompile(`"seconds": [\d.e-]+`), `"seconds": SECONDS`},
	{regexp.MustCompile(`go1\.\d+(\.\d+)?\S*`), "GOVERSION"},
	{regexp.MustCompile(` since TIME \([^)]*\)`), ""}, // known from PostgreSQL 17
	{regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`), "UUID"},
	{regexp.MustCompile(`process \d+, application`), "process PID, application"},
	{regexp.MustCompile(`"active_pid": \d+`), `"active_pid": PID`},
	{regexp.MustCompile(`process \d+, [\w.-]+`), "process PID, NAME"},
	{regexp.MustCompile(`process \d+:`), "process PID:"},
	{regexp.MustCompile(`\b\d{18,20}\b`), "SYSTEM"}, // the identifier that initdb made
	{regexp.MustCompile(`\b(bytes"?): \d+`), "$1: N"},
	{regexp.MustCompile(`port \d+ is in use`), "port PORT is in use"},
	{regexp.MustCompile(`\b\d+ bytes( \(\S+ .iB\))?`), "N bytes"},
	{regexp.MustCompile(`_bytes": \d+`), `_bytes": N`},
	{regexp.MustCompile(`"inactive_since": \S+`), `"inactive_since": SINCE`}, // known from PostgreSQL 17
	{regexp.MustCompile(`\b[0-9A-F]+/[0-9A-F]{6,8}\b`), "LSN"},
	{regexp.MustCompile(`(none|LSN) +\d+ +\d+ +\d+`), "$1  N  N  N"},
	{regexp.MustCompile(`LSN +\d+ +\d+`), "LSN  N  N"},
	{regexp.MustCompile(`(\S) {2,}`), "$1  "}, // the columns of a table are as wide as what varies in them
}

// golden compares an outcome with testdata/NAME.txt.
func golden(t *testing.T, name, command string, got outcome) {
	t.Helper()
	text := fmt.Sprintf("$ %s\nexit code %d\n--- stdout\n%s--- stderr\n%s", command, got.code, got.stdout, got.stderr)
	for _, v := range varying {
		text = v.pattern.ReplaceAllString(text, v.text)
	}
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run the test with -update, and read what it accepted", err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s differs from %s; -update accepts it (-want +got):\n%s", command, path, diff)
	}
}

// runGolden runs a command and compares; words in args that start with $ are replaced, so that the golden shows the command as it is typed.
func runGolden(t *testing.T, name string, values map[string]string, args ...string) outcome {
	t.Helper()
	real := make([]string, len(args))
	for i, arg := range args {
		real[i] = arg
		if value, ok := values[arg]; ok {
			real[i] = value
		}
	}
	got := walpost(t, nil, real...)
	golden(t, name, "walpost "+strings.Join(args, " "), got)
	return got
}

// closedPort is an address of this machine where nobody listens, and which no outgoing connection gets.
func closedPort(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Addr()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// server is a command that runs until it is stopped.
type server struct {
	stop   context.CancelFunc
	ended  chan struct{} // closed when it has ended
	code   int           // read it after ended
	stderr *lines
	stdout bytes.Buffer // read it after ended
}

// start runs a server in process; it is stopped at the end of the test at the latest.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	return startWith(t, nil, args...)
}

func startWith(t *testing.T, environ []string, args ...string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &server{stop: cancel, ended: make(chan struct{}), stderr: newLines()}
	home := t.TempDir()
	go func() {
		defer close(s.ended)
		s.code = cli.Run(ctx, strings.NewReader(""), &s.stdout, s.stderr, append(environ, "HOME="+home), args)
	}()
	t.Cleanup(func() {
		cancel()
		<-s.ended
		if t.Failed() {
			t.Logf("walpost %s:\n%s", strings.Join(args, " "), s.stderr.String())
		}
	})
	return s
}

// lines is a log that a test can wait for. It is safe for concurrent use.
type lines struct {
	mu    sync.Mutex // guards what follows
	text  bytes.Buffer
	grown chan struct{} // closed and replaced at each write
}

func newLines() *lines { return &lines{grown: make(chan struct{})} }

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.grown)
	l.grown = make(chan struct{})
	return l.text.Write(p)
}

func (l *lines) String() string {
	text, _ := l.snapshot()
	return text
}

func (l *lines) snapshot() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String(), l.grown
}
