package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/cli"
	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/devstack/postgres"
)

const devCommand = "WALPOST_TEST_DEV"

// TestDevProcess is not a test: it is the process that startDev starts, so that it can be signalled and killed.
func TestDevProcess(t *testing.T) {
	args := os.Getenv(devCommand)
	if args == "" {
		return // a helper of the tests of dev, run in a process of its own
	}
	os.Exit(cli.Main(context.Background(), strings.Split(args, "\n"), os.Stdout, os.Stderr))
}

// devProcess is a running `walpost dev`.
type devProcess struct {
	*exec.Cmd
	stdout, stderr *lines
	ended          chan struct{} // closed when the process has ended
}

// devDir is a data directory that the user who runs PostgreSQL can reach, which t.TempDir is not when root runs the test.
func devDir(t *testing.T) string {
	t.Helper()
	if _, err := postgres.Find(t.Context(), os.Getenv("WALPOST_PG_BIN"), ""); err != nil {
		if os.Getenv("CI") == "true" || !errors.Is(err, postgres.ErrNotFound) {
			t.Fatal(err)
		}
		t.Skip("needs PostgreSQL: install it (Debian: apt-get install postgresql) or set WALPOST_PG_BIN")
	}
	dir, err := os.MkdirTemp("", "walpost-dev-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// devArgs runs dev on the directory and on free ports.
func devArgs(t *testing.T, dir string, args ...string) []string {
	t.Helper()
	all := []string{"dev", "--data-dir", dir, "--pg-bin", os.Getenv("WALPOST_PG_BIN"), "--smtp-addr", closedPort(t)}
	for _, flag := range []string{"--addr", "--console-addr", "--kafka-addr", "--postgres-addr", "--ops-addr"} {
		all = append(all, flag, "127.0.0.1:0")
	}
	return append(all, args...)
}

func startDev(t *testing.T, dir string, args ...string) *devProcess {
	t.Helper()
	return startDevWith(t, nil, dir, args...)
}

// startDevWith is startDev with settings in the environment.
func startDevWith(t *testing.T, env []string, dir string, args ...string) *devProcess {
	t.Helper()
	p := &devProcess{Cmd: exec.Command(os.Args[0], "-test.run=^TestDevProcess$"), stdout: newLines(), stderr: newLines(), ended: make(chan struct{})}
	p.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"), devCommand+"="+strings.Join(devArgs(t, dir, args...), "\n"))
	p.Stdout, p.Stderr = p.stdout, p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.Wait() // the tests look at the exit code
	}()
	t.Cleanup(func() {
		_ = p.Process.Signal(syscall.SIGINT) // it may have ended
		select {
		case <-p.ended:
		case <-time.After(20 * time.Second):
			_ = p.Process.Kill()
			t.Errorf("dev did not end within 20 s of SIGINT")
		}
		if t.Failed() {
			t.Logf("dev said on stdout:\n%s\non stderr:\n%s", p.stdout.String(), p.stderr.String())
		}
	})
	return p
}

// devBanner is the part of the JSON banner that the tests look at.
type devBanner struct {
	PID         int    `json:"pid"`
	Console     string `json:"console"`
	API         string `json:"api"`
	Kafka       string `json:"kafka"`
	Metrics     string `json:"metrics"`
	DataDir     string `json:"data_dir"`
	FirstRun    bool   `json:"first_run"`
	Recovered   bool   `json:"recovered"`
	Events      int64  `json:"events"`
	DeadLetters int64  `json:"dead_letters"`
	ReadyMillis int64  `json:"ready_ms"`
}

// banner waits for the JSON banner.
func (p *devProcess) banner(t *testing.T) (b devBanner) {
	t.Helper()
	p.until(t, "the banner", func() bool { return json.Unmarshal([]byte(p.stdout.String()), &b) == nil })
	return b
}

// until waits until what is said makes the condition true.
func (p *devProcess) until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-p.ended:
			if condition() {
				return
			}
			t.Fatalf("dev ended before %s came", what)
		case <-deadline:
			t.Fatalf("%s did not come within 60 s", what)
		}
	}
}

// interrupt is Ctrl-C. It returns the exit code and how long the stop took.
func (p *devProcess) interrupt(t *testing.T) (code int, took time.Duration) {
	t.Helper()
	began := time.Now()
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	return p.exit(t), time.Since(began)
}

func (p *devProcess) exit(t *testing.T) int {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		t.Fatal("dev did not end within 30 s")
	}
	return p.ProcessState.ExitCode()
}

// postmaster is the process id of dev's database server.
func postmaster(t *testing.T, dir string) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "postgres", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := bytes.Cut(content, []byte("\n"))
	pid, err := strconv.Atoi(string(line))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func runs(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// awaitEnd waits for a database server whose dev was killed: the kernel has told it to stop, and it writes a checkpoint first.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for runs(pid) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the database server of the killed dev, process %d, still runs after 20 s", pid)
		}
	}
}

func devStatus(t *testing.T, console string) (st devstack.Status) {
	t.Helper()
	if err := json.Unmarshal([]byte(fetch(t, console+"/status.json")), &st); err != nil {
		t.Fatal(err)
	}
	return st
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	return ask(t, http.MethodGet, url, "")
}

// ask asks and must be answered with success.
func ask(t *testing.T, method, url, body string) string {
	t.Helper()
	code, text, err := tryAsk(t, method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if code >= 300 {
		t.Fatalf("%s %s = %d: %s", method, url, code, text)
	}
	return text
}

func tryAsk(t *testing.T, method, url, body string) (code int, text string, err error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, string(answer), err
}

// register posts a registration and waits until its event is delivered.
func register(t *testing.T, b devBanner, email string) devstack.Event {
	t.Helper()
	ask(t, http.MethodPost, b.API+"/users", fmt.Sprintf(`{"email":%q,"password":"a-long-enough-password"}`, email))
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, e := range devStatus(t, b.Console).Events {
			if e.Recipient == email && e.State == devstack.Delivered && e.Topic != "" {
				return e
			}
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the event of %s was not delivered within 30 s", email)
		}
	}
}

// flag is the value that the process was given for a flag, the last one when it was given several.
func (p *devProcess) flag(name string) (value string) {
	args := strings.Split(strings.TrimPrefix(p.Env[len(p.Env)-1], devCommand+"="), "\n")
	for i, arg := range args {
		if arg == name {
			value = args[i+1]
		}
	}
	return value
}
