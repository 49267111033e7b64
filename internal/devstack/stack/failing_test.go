package stack_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/devstack/maven"
	"github.com/walpost/walpost/internal/devstack/stack"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

func failedUp(t *testing.T, _, remembered stack.Config) {
	before := read(t, remembered.Dir).DatabaseURL
	remembered.ConnectSettings = map[string]string{"offset.flush.interval.ms": "none"}
	remembered.PostgresAddr = stacktest.Addr(t)
	_, err := stack.Up(t.Context(), remembered)
	if err == nil || !strings.Contains(err.Error(), "Invalid value none") || !strings.Contains(err.Error(), "connect.log") {
		t.Errorf("Up() with a setting that Connect refuses = %v, want its words and where its log is", err)
	}
	if state := read(t, remembered.Dir); state.Running() || state.DatabaseURL != before {
		t.Errorf("Read() after that Up = %+v, want that nothing runs and that the address of before is remembered", state)
	}
}

func interruptedUp(t *testing.T, _, remembered stack.Config) {
	stop := errors.New("Ctrl-C")
	for _, moment := range []string{"starting PostgreSQL", "starting Kafka 4", "Kafka is ready", "starting Kafka Connect", "Kafka Connect is ready"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		remembered.Progress = &at{text: moment, then: func() { cancel(stop) }}
		if _, err := stack.Up(ctx, remembered); !errors.Is(err, stop) {
			t.Errorf("Up() interrupted at %q = %v, want the cause", moment, err)
		}
		if state := read(t, remembered.Dir); state.Running() {
			t.Errorf("Read() after an interruption at %q = %+v, want that nothing runs", moment, state)
		}
	}
}

// killedUp leaves what a killed Up leaves: servers that run, one of them still starting, a database that is not made yet, and a note.
func killedUp(t *testing.T, cfg, remembered stack.Config) {
	state := up(t, remembered)
	exec(t, stack.State{DatabaseURL: strings.Replace(state.DatabaseURL, "/walpost?", "/postgres?", 1)}, "drop database walpost with (force)")
	crash(t, state.Server(stack.Connect))
	state = up(t, remembered)
	if diff := cmp.Diff([]string{stack.Connect}, state.Started); diff != "" {
		t.Errorf("Started differs (-want +got):\n%s", diff)
	}
	exec(t, state, "create table anew (n int)")
	if _, err := stack.Down(t.Context(), cfg.Dir, t.Output()); err != nil {
		t.Errorf("Down() = %v", err)
	}
}

func reset(t *testing.T, cfg, _ stack.Config) {
	fetched, mine := filepath.Join(cfg.Dir, "postgresql", "native"), filepath.Join(cfg.Dir, "mine.txt")
	if err := errors.Join(os.MkdirAll(fetched, 0o755), os.WriteFile(mine, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	doomed, err := stack.Contents(cfg.Dir)
	if err != nil || len(doomed) == 0 {
		t.Errorf("Contents() = %v, %v, want what Reset deletes", doomed, err)
	}
	if err := stack.Reset(t.Context(), cfg.Dir); err != nil {
		t.Fatalf("Reset() = %v", err)
	}
	if diff := cmp.Diff([]string{"lock", "mine.txt", "postgresql"}, entries(t, cfg.Dir)); diff != "" {
		t.Errorf("what Reset left differs (-want +got):\n%s", diff)
	}
	if doomed, err := stack.Contents(cfg.Dir); err != nil || len(doomed) != 0 {
		t.Errorf("Contents() after Reset = %v, %v, want nothing", doomed, err)
	}
}

func TestAllBusyPortsAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	var want []stack.Port
	for _, port := range []struct {
		server string
		addr   func(string)
	}{
		{stack.PostgreSQL, func(addr string) { cfg.PostgresAddr = addr }},
		{stack.Kafka, func(addr string) { cfg.KafkaAddr = addr }},
		{stack.Kafka, func(addr string) { cfg.ControllerPort = portOf(t, addr) }},
		{stack.Connect, func(addr string) { cfg.ConnectAddr = addr }},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		port.addr(l.Addr().String())
		want = append(want, stack.Port{Server: port.server, Addr: l.Addr().String(), Controller: len(want) == 2})
	}
	_, err := stack.Up(t.Context(), cfg)
	var busy *stack.BusyError
	if !errors.As(err, &busy) {
		t.Fatalf("Up() = %v, want a BusyError", err)
	}
	if diff := cmp.Diff(want, busy.Ports); diff != "" {
		t.Errorf("Ports differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"lock"}, entries(t, cfg.Dir)); diff != "" {
		t.Errorf("what Up left differs (-want +got):\n%s", diff)
	}
}

func TestAFolderOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	file := filepath.Join(cfg.Dir, "kafka", "mine.txt")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	want := "folder " + cfg.Dir + ": no stack has put there what it holds, kafka, and reset would delete it"
	var refused *stack.FolderError
	if _, err := stack.Up(t.Context(), cfg); !errors.As(err, &refused) || err.Error() != want {
		t.Errorf("Up() = %v, want %s", err, want)
	}
	if err := stack.Reset(t.Context(), cfg.Dir); err != nil {
		t.Errorf("Reset() = %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the file that was there: %v", err)
	}
}

func TestNotesThatCannotBeReadAreNamed(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	file := filepath.Join(cfg.Dir, "stack.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"Up":    func() error { _, err := stack.Up(t.Context(), cfg); return err },
		"Read":  func() error { _, err := stack.Read(t.Context(), cfg.Dir); return err },
		"Down":  func() error { _, err := stack.Down(t.Context(), cfg.Dir, t.Output()); return err },
		"Reset": func() error { return stack.Reset(t.Context(), cfg.Dir) },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), file+" is not what it was written as") {
			t.Errorf("%s() = %v, want that %s is named", name, err, file)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Error(err)
	}
}

// Not parallel: it takes the programs away from the whole process.
func TestAMissingJavaIsOneLine(t *testing.T) {
	cfg := stack.Config{Dir: folder(t), PostgresAddr: stacktest.Addr(t), KafkaAddr: stacktest.Addr(t), ConnectAddr: stacktest.Addr(t)}
	t.Setenv("PATH", t.TempDir())
	_, err := stack.Up(t.Context(), cfg)
	var missing *maven.MissingError
	if !errors.As(err, &missing) || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "no Java on this machine: install Java 17") {
		t.Errorf("Up() = %v, want one line that says which Java to install", err)
	}
	if diff := cmp.Diff([]string{"lock"}, entries(t, cfg.Dir)); diff != "" {
		t.Errorf("what Up left differs (-want +got):\n%s", diff)
	}
}

func TestAddressesThatCannotBeAreRefusedFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  stack.Config
		want string
	}{
		{"the defaults", stack.Config{}, ""},
		{"IPv6 for Java", stack.Config{KafkaAddr: "[::1]:9092", ConnectAddr: "[::1]:8083"}, ""},
		{"other machines", stack.Config{KafkaAddr: "0.0.0.0:9092"}, "Kafka cannot be at 0.0.0.0:9092: want a port of this machine, like 127.0.0.1:9092"},
		{"a name", stack.Config{PostgresAddr: "localhost:5433"}, "PostgreSQL cannot be at localhost:5433: want a port of this machine, like 127.0.0.1:5433"},
		{"any port", stack.Config{ConnectAddr: "127.0.0.1:0"}, "Kafka Connect cannot be at 127.0.0.1:0: want a port of this machine, like 127.0.0.1:8083"},
		{"IPv6 for PostgreSQL", stack.Config{PostgresAddr: "[::1]:5433"}, "PostgreSQL cannot be at [::1]:5433: want a port of this machine, like 127.0.0.1:5433"},
		{"the last port", stack.Config{KafkaAddr: "127.0.0.1:65535"}, "Kafka cannot be at 127.0.0.1:65536: want a port of this machine, like 127.0.0.1:9092"},
		{"one port for two", stack.Config{ConnectAddr: "127.0.0.1:9093"}, "Kafka and Kafka Connect cannot both have port 9093: Kafka takes the port above its own as well"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Dir = "somewhere"
			err := tt.cfg.Validate()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || err.Error() != tt.want) {
				t.Errorf("Validate() = %v, want %q", err, tt.want)
			}
		})
	}
	if err := (stack.Config{}).Validate(); err == nil {
		t.Error("Validate() without a folder = nil, want an error")
	}
}
