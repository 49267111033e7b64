package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/stack"
)

var all = []string{stack.PostgreSQL, stack.Kafka, stack.Connect}

// One stack goes through its whole life: a start takes two virtual machines of Java.
func TestAStackFromUpToReset(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	remembered := stack.Config{Dir: cfg.Dir, PGBin: cfg.PGBin, Progress: t.Output()}
	life := []struct {
		name string
		test func(t *testing.T, cfg, remembered stack.Config)
	}{
		{"nothing runs on a new folder, and looking at it makes none", untouched},
		{"up starts everything, and another up at the same time starts nothing", firstUp},
		{"a connector may demand exactly-once", exactlyOnce},
		{"a second up starts nothing", secondUp},
		{"what runs is not started at another address", otherAddress},
		{"nothing is deleted while something runs", resetOfARunningStack},
		{"one process at a time works on the folder, anybody may look", locked},
		{"a server that hangs is named, and the others are left alone", hanging},
		{"a server that hangs while another is waited for is waited for too", hangingInTurn},
		{"a server that was killed is started again, alone, with its data", killed},
		{"down stops everything, and then has nothing to do", down},
		{"an up that fails stops what it has started", failedUp},
		{"an up that is interrupted stops what it has started", interruptedUp},
		{"an up that was killed is completed by the next one", killedUp},
		{"reset deletes what is the stack's and nothing else", reset},
	}
	for _, step := range life {
		if !t.Run(step.name, func(t *testing.T) { step.test(t, cfg, remembered) }) {
			return // what follows needs it
		}
	}
}

func untouched(t *testing.T, cfg, _ stack.Config) {
	dir := filepath.Join(cfg.Dir, "new")
	for name, call := range map[string]func() (stack.State, error){
		"Read": func() (stack.State, error) { return stack.Read(t.Context(), dir) },
		"Down": func() (stack.State, error) { return stack.Down(t.Context(), dir, io.Discard) },
	} {
		state, err := call()
		if err != nil || state.Running() || state.Healthy() || len(state.Stopped) > 0 || len(state.Servers) != 3 {
			t.Errorf("%s() of a folder that is not there = %+v, %v, want three servers that do not run", name, state, err)
		}
	}
	if err := stack.Reset(t.Context(), dir); err != nil {
		t.Errorf("Reset() of a folder that is not there = %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat(%s) = %v, want that nobody made it", dir, err)
	}
}

func firstUp(t *testing.T, cfg, _ stack.Config) {
	var meanwhile error
	another := cfg
	cfg.Progress = &at{text: "starting", then: func() { _, meanwhile = stack.Up(t.Context(), another) }}
	begin := time.Now()
	state := up(t, cfg)
	took := time.Since(begin)
	var locked *devstack.LockedError
	if !errors.As(meanwhile, &locked) {
		t.Errorf("Up() during Up = %v, want a LockedError", meanwhile)
	}
	want := stack.State{
		Dir: cfg.Dir, DatabaseURL: "postgres://walpost@" + cfg.PostgresAddr + "/walpost?sslmode=disable", Brokers: []string{cfg.KafkaAddr},
		ConnectURL: "http://" + cfg.ConnectAddr, Secrets: filepath.Join(cfg.Dir, "connect", "secrets"),
	}
	got := state
	got.Servers, got.Started = nil, nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Up() differs (-want +got):\n%s", diff)
	}
	memory := 0
	for i, s := range state.Servers {
		if s.Name != all[i] || s.Version == "" || s.Addr == "" || s.PID == 0 || !s.Running || s.Problem != "" {
			t.Errorf("server %d = %+v, want %s running", i, s, all[i])
		}
		if text, err := os.ReadFile(s.Log); err != nil || len(text) == 0 {
			t.Errorf("log of %s = %d bytes, %v", s.Name, len(text), err)
		}
		memory += s.ResidentMiB
	}
	if len(state.Started) != 3 {
		t.Errorf("Started = %v, want all", state.Started)
	}
	exec(t, state, "create table kept (n int)")
	if _, err := admin(t, state).CreateTopic(t.Context(), 1, 1, nil, "kept"); err != nil {
		t.Errorf("create topic: %v", err)
	}
	fmt.Fprintf(os.Stdout, "counts: stack up %.1f s on a new folder, %d MiB resident (PostgreSQL %d, Kafka %d, Connect %d)\n", took.Seconds(), memory,
		state.Servers[0].ResidentMiB, state.Servers[1].ResidentMiB, state.Servers[2].ResidentMiB)
}

// exactlyOnce asks the worker what it thinks of a configuration that demands it: a worker without it would object to that field.
func exactlyOnce(t *testing.T, cfg, _ stack.Config) {
	body, err := json.Marshal(map[string]string{"connector.class": connect.Connector, "name": "sample", "exactly.once.support": "required"})
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + cfg.ConnectAddr + "/connector-plugins/" + connect.Connector + "/config/validate"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || strings.Contains(string(text), "exactly-once source support enabled") {
		t.Errorf("PUT %s = %s, %v: %s, want no objection to exactly.once.support", url, response.Status, err, text)
	}
}

func secondUp(t *testing.T, cfg, remembered stack.Config) {
	before := read(t, cfg.Dir)
	for name, cfg := range map[string]stack.Config{"the same": cfg, "that it remembers": remembered} {
		begin := time.Now()
		state := up(t, cfg)
		if len(state.Started) != 0 {
			t.Errorf("Started of a second Up with %s = %v, want none", name, state.Started)
		}
		if diff := cmp.Diff(pids(before), pids(state)); diff != "" {
			t.Errorf("processes after a second Up with %s differ (-before +after):\n%s", name, diff)
		}
		fmt.Fprintf(os.Stdout, "counts: stack up %.2f s when all of it runs\n", time.Since(begin).Seconds())
	}
	var said bytes.Buffer
	remembered.KafkaHeapMiB, remembered.Progress = 300, &said
	up(t, remembered)
	if want := "Kafka keeps its heap of 256 MiB until it is stopped and started again\n"; said.String() != want {
		t.Errorf("Up() with another heap said %q, want %q", said.String(), want)
	}
}

func otherAddress(t *testing.T, _, remembered stack.Config) {
	before := read(t, remembered.Dir)
	remembered.KafkaAddr, remembered.ConnectAddr = "127.0.0.1:1", "127.0.0.1:3"
	_, err := stack.Up(t.Context(), remembered)
	var other *stack.AddrError
	if !errors.As(err, &other) {
		t.Fatalf("Up() with other addresses = %v, want an AddrError", err)
	}
	want := fmt.Sprintf("the stack runs with Kafka at %s, not at 127.0.0.1:1: leave the address as it is, or stop the stack first\n"+
		"the stack runs with Kafka Connect at %s, not at 127.0.0.1:3: leave the address as it is, or stop the stack first",
		before.Server(stack.Kafka).Addr, before.Server(stack.Connect).Addr)
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Errorf("Up() with other addresses differs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, read(t, remembered.Dir), cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".ResidentMiB" }, cmp.Ignore())); diff != "" {
		t.Errorf("Read() after that Up differs (-before +after):\n%s", diff)
	}
}

func resetOfARunningStack(t *testing.T, cfg, _ stack.Config) {
	var running *stack.RunningError
	if err := stack.Reset(t.Context(), cfg.Dir); !errors.As(err, &running) || len(running.Servers) != 3 {
		t.Errorf("Reset() of a running stack = %v, want a RunningError with all servers", err)
	}
	if state := read(t, cfg.Dir); !state.Healthy() {
		t.Errorf("Read() after that Reset = %+v, want all healthy", state)
	}
}

func locked(t *testing.T, cfg, _ stack.Config) {
	lock, err := devstack.LockDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"Up":    func() error { _, err := stack.Up(t.Context(), cfg); return err },
		"Down":  func() error { _, err := stack.Down(t.Context(), cfg.Dir, io.Discard); return err },
		"Reset": func() error { return stack.Reset(t.Context(), cfg.Dir) },
	} {
		var locked *devstack.LockedError
		if err := call(); !errors.As(err, &locked) {
			t.Errorf("%s() on a locked folder = %v, want a LockedError", name, err)
		}
	}
	if state := read(t, cfg.Dir); !state.Healthy() {
		t.Errorf("Read() of a locked folder = %+v, want all healthy", state)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
}

func hanging(t *testing.T, _, remembered stack.Config) {
	before := read(t, remembered.Dir)
	kafka := before.Server(stack.Kafka)
	if err := syscall.Kill(kafka.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	impatient := errors.New("the test waits no longer")
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, impatient)
	defer cancel()
	progress := &at{text: fmt.Sprintf("waiting for Kafka, which runs as process %d", kafka.PID), then: func() {}}
	remembered.Progress = progress
	_, err := stack.Up(ctx, remembered)
	if !errors.Is(err, impatient) {
		t.Errorf("Up() with Kafka stopped in its tracks = %v, want the end of the wait", err)
	}
	if err := syscall.Kill(kafka.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pids(before), pids(up(t, remembered))); diff != "" {
		t.Errorf("processes after that Up differ (-before +after):\n%s", diff)
	}
}

func hangingInTurn(t *testing.T, _, remembered stack.Config) {
	before := read(t, remembered.Dir)
	postgres, worker := before.Server(stack.PostgreSQL).PID, before.Server(stack.Connect).PID
	send := func(pid int, signal syscall.Signal) {
		if err := syscall.Kill(pid, signal); err != nil {
			t.Error(err)
		}
	}
	waiting := func(name string, pid int, then func()) io.Writer {
		return &at{text: fmt.Sprintf("waiting for %s, which runs as process %d", name, pid), then: then}
	}
	send(worker, syscall.SIGSTOP)
	remembered.Progress = io.MultiWriter(
		waiting(stack.Connect, worker, func() { send(postgres, syscall.SIGSTOP); send(worker, syscall.SIGCONT) }),
		waiting(stack.PostgreSQL, postgres, func() { send(postgres, syscall.SIGCONT) }),
	)
	if diff := cmp.Diff(pids(before), pids(up(t, remembered))); diff != "" {
		t.Errorf("processes after that Up differ (-before +after):\n%s", diff)
	}
}

func killed(t *testing.T, _, remembered stack.Config) {
	for _, name := range all {
		before := read(t, remembered.Dir)
		crash(t, before.Server(name))
		deadline := time.After(20 * time.Second)
		for tick := time.NewTicker(5 * time.Millisecond); ; {
			if state := read(t, remembered.Dir); !state.Server(name).Running {
				if state.Healthy() || state.Server(name).Problem != "it is not running" || state.Server(name).Addr == "" {
					t.Errorf("Read() after kill -9 of %s = %+v, want that it is not running", name, state)
				}
				break
			}
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("waited 20 s for Read() to miss %s", name)
			}
		}
		begin := time.Now()
		state := up(t, remembered)
		fmt.Fprintf(os.Stdout, "counts: stack up %.1f s after kill -9 of %s\n", time.Since(begin).Seconds(), name)
		if diff := cmp.Diff([]string{name}, state.Started); diff != "" {
			t.Errorf("Started after kill -9 of %s differs (-want +got):\n%s", name, diff)
		}
		was, is := pids(before), pids(state)
		delete(was, name)
		delete(is, name)
		if diff := cmp.Diff(was, is); diff != "" {
			t.Errorf("the other processes differ after kill -9 of %s (-before +after):\n%s", name, diff)
		}
		exec(t, state, "insert into kept values (1)")
		if topics, err := admin(t, state).ListTopics(t.Context(), "kept"); err != nil || !topics.Has("kept") {
			t.Errorf("ListTopics() after kill -9 of %s = %v, %v, want the topic of before", name, topics, err)
		}
	}
}

func down(t *testing.T, cfg, _ stack.Config) {
	var said bytes.Buffer
	begin := time.Now()
	state, err := stack.Down(t.Context(), cfg.Dir, &said)
	if err != nil || state.Running() {
		t.Fatalf("Down() = %+v, %v, want that nothing runs", state, err)
	}
	fmt.Fprintf(os.Stdout, "counts: stack down %.1f s\n", time.Since(begin).Seconds())
	if diff := cmp.Diff([]string{stack.Connect, stack.Kafka, stack.PostgreSQL}, state.Stopped); diff != "" {
		t.Errorf("Stopped differs (-want +got):\n%s", diff)
	}
	if want := "stopping Kafka Connect\nstopping Kafka\nstopping PostgreSQL\n"; said.String() != want {
		t.Errorf("Down() said %q, want %q: each stopped when it was asked", said.String(), want)
	}
	if state, err := stack.Down(t.Context(), cfg.Dir, &said); err != nil || len(state.Stopped) != 0 {
		t.Errorf("second Down() = %v, %v, want nothing stopped", state.Stopped, err)
	}
	if state := read(t, cfg.Dir); state.Running() || state.Server(stack.Kafka).Problem != "" {
		t.Errorf("Read() after Down = %+v, want that nothing runs and nothing is wrong", state)
	}
}
