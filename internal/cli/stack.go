package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/devstack/stack"
	"github.com/walpost/walpost/internal/ops"
)

// rootStackDir is for root, whose home is closed to the user that PostgreSQL then runs as.
const rootStackDir = "/var/lib/walpost/stack"

func newStackCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{
		Use:   "stack",
		Short: "Run real Kafka, Kafka Connect and Debezium on this machine, without Docker",
		Long: `Run the real stack on this machine, without Docker: PostgreSQL, one Kafka broker, and one Kafka Connect worker with Debezium. They go on running when
the command has ended, until stack down. Java 17 and, for the first time, Maven are needed.`,
	}, newStackUpCommand(p), newStackStatusCommand(p), newStackDownCommand(p), newStackResetCommand(p))
}

func newStackUpCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start what does not run of the stack, and wait until all of it is healthy",
		Long: `Start what does not run of the stack: PostgreSQL with a database walpost, one Kafka broker and one Kafka Connect worker with Debezium. Wait until all of
it is healthy, and say where it is. What runs already stays as it is. The programs are fetched once: Kafka and Debezium with Maven (about 95 MB), PostgreSQL
only where there is none. Data, addresses and heaps are kept between runs; a topic that is written to is not made by itself. PostgreSQL waits for the disk at
each commit, unlike that of dev. When it fails or is interrupted, what it has started is stopped again.

Exit code 0: all is healthy, 1: something cannot be started, Java or Maven is missing, 5: a port is taken, or another process works on the folder.`,
		Example: "  walpost stack up\n  walpost stack up --kafka-addr 127.0.0.1:19092 --connect-heap 1024\n  walpost stack up --output json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.stackUp(cmd.Context()) },
	}
	config.Flags(cmd.Flags(), "stack-dir", "postgres-addr", "kafka-addr", "connect-addr", "kafka-heap", "connect-heap", "pg-bin")
	return cmd
}

func newStackStatusCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Say what runs of the stack, and whether it is healthy",
		Long:    "Say what runs of the stack, and ask each server whether it does its work.\nExit code 0: all are healthy, 3: one is not, 4: none runs.",
		Example: "  walpost stack status --output json",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.stackStatus(cmd.Context()) },
	}
	config.Flags(cmd.Flags(), "stack-dir")
	return cmd
}

func newStackDownCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "Stop the stack; its data is kept",
		Long:    "Stop Kafka Connect, then Kafka, then PostgreSQL. Their data is kept for the next stack up. Where nothing runs, nothing is done.",
		Example: "  walpost stack down",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.stackDown(cmd.Context()) },
	}
	config.Flags(cmd.Flags(), "stack-dir")
	return cmd
}

func newStackResetCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Delete the stack's data: databases, topics, connectors, logs",
		Long: `Delete what the stack has kept: databases, topics, connectors and logs. It says what, and asks; --yes answers. Stop the stack first. Programs that were
fetched are kept.`,
		Example: "  walpost stack reset --yes",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.stackReset(cmd.Context()) },
	}
	config.Flags(cmd.Flags(), "stack-dir")
	return cmd
}

func (p *program) stackUp(ctx context.Context) error {
	cfg, err := p.stackConfig()
	if err != nil {
		return err
	}
	state, err := stack.Up(ctx, cfg)
	if errors.Is(err, errInterrupted) {
		return fmt.Errorf("%w: what was started is stopped again", err)
	}
	if err != nil {
		return p.stackError(ctx, err)
	}
	if len(state.Started) == 0 {
		p.say("the stack runs already")
	}
	if err := p.printStack(state); err != nil {
		return err
	}
	if err := stackVerdict(state); err != nil {
		return err
	}
	p.say("%s", p.stackNext())
	return nil
}

// stackConfig is what the flags say. What nobody set is left to the stack, which keeps the addresses and heaps of the time before.
func (p *program) stackConfig() (stack.Config, error) {
	dir, err := stackDir(p.cfg)
	if err != nil {
		return stack.Config{}, err
	}
	cfg := stack.Config{Dir: dir, PGBin: p.cfg.PGBin, Progress: io.Discard}
	if !p.cfg.Quiet {
		cfg.Progress = p.stderr
	}
	given := func(key string) bool { return p.cfg.Origin(key) != config.OriginDefault }
	for _, addr := range []struct {
		key, value string
		field      *string
	}{
		{"postgres-addr", p.cfg.PostgresAddr, &cfg.PostgresAddr},
		{"kafka-addr", p.cfg.KafkaAddr, &cfg.KafkaAddr},
		{"connect-addr", p.cfg.ConnectAddr, &cfg.ConnectAddr},
	} {
		if given(addr.key) {
			*addr.field = addr.value
		}
	}
	if given("kafka-heap") {
		cfg.KafkaHeapMiB = p.cfg.KafkaHeap
	}
	if given("connect-heap") {
		cfg.ConnectHeapMiB = p.cfg.ConnectHeap
	}
	if err := cfg.Validate(); err != nil {
		return stack.Config{}, misuse(err)
	}
	return cfg, nil
}

func stackDir(cfg config.Config) (string, error) {
	dir := cfg.StackDir
	if cfg.Origin("stack-dir") == config.OriginDefault && os.Geteuid() == 0 {
		dir = rootStackDir
	}
	if dir == "" {
		return "", misused("there is no home folder to keep data in: name a folder with --stack-dir")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", misused("--stack-dir: %w", err)
	}
	return dir, nil
}

// stackError gives an error its exit code and says what to do next.
func (p *program) stackError(ctx context.Context, err error) error {
	var locked *devstack.LockedError
	var busy *stack.BusyError
	var running *stack.RunningError
	switch {
	case errors.As(err, &locked):
		return conflict("another stack up, down or reset works on %s (process %d): wait for it, or choose another folder with --stack-dir", locked.Dir, locked.Owner.PID)
	case errors.As(err, &busy):
		return busyPorts(ctx, busy)
	case is[*stack.AddrError](err):
		return conflict("%w: `%s`", err, p.stackCommand("down"))
	case errors.As(err, &running):
		return conflict("%w: stop it first: `%s`", err, p.stackCommand("down"))
	case is[*stack.FolderError](err):
		return fmt.Errorf("%w: choose another with --stack-dir", err)
	}
	return err
}

// busyPorts says who has each port and which flag changes it.
func busyPorts(ctx context.Context, busy *stack.BusyError) error {
	flags := map[string]string{stack.PostgreSQL: "postgres-addr", stack.Kafka: "kafka-addr", stack.Connect: "connect-addr"}
	var errs []error
	for _, port := range busy.Ports {
		listener, err := ops.Listen(ctx, port.Addr, flags[port.Server])
		if err == nil { // given up in this moment
			err = errors.Join(&stack.BusyError{Ports: []stack.Port{port}}, listener.Close())
		}
		server := port.Server
		if port.Controller {
			server += ", which takes the port above its own too"
		}
		errs = append(errs, fmt.Errorf("%s: %w", server, err))
	}
	return conflict("%w", errors.Join(errs...))
}

func (p *program) stackStatus(ctx context.Context) error {
	dir, err := stackDir(p.cfg)
	if err != nil {
		return err
	}
	state, err := stack.Read(ctx, dir)
	if err != nil {
		return p.stackError(ctx, err)
	}
	if err := p.printStack(state); err != nil {
		return err
	}
	if !state.Running() {
		return notFound("nothing of the stack in %s runs: `%s` starts it", tilde(dir), p.stackCommand("up"))
	}
	return stackVerdict(state)
}

// stackVerdict names what is not healthy of a stack that runs.
func stackVerdict(state stack.State) error {
	var errs []error
	for _, s := range state.Servers {
		if !s.Healthy {
			errs = append(errs, fmt.Errorf("%s: %s (log: %s)", s.Name, s.Problem, tilde(s.Log)))
		}
	}
	if len(errs) > 0 {
		return unhealthy("%w", errors.Join(errs...))
	}
	return nil
}

func (p *program) stackDown(ctx context.Context) error {
	dir, err := stackDir(p.cfg)
	if err != nil {
		return err
	}
	talk := p.stderr
	if p.cfg.Quiet {
		talk = io.Discard
	}
	state, err := stack.Down(ctx, dir, talk)
	if err != nil {
		return p.stackError(ctx, err)
	}
	if len(state.Stopped) == 0 {
		p.say("nothing of the stack in %s was running", tilde(dir))
	}
	if p.cfg.Output != "table" {
		return p.print(state, nil)
	}
	return nil
}

func (p *program) stackReset(ctx context.Context) error {
	dir, err := stackDir(p.cfg)
	if err != nil {
		return err
	}
	doomed, err := stack.Contents(dir)
	if err != nil {
		return err
	}
	if len(doomed) == 0 {
		p.say("there is nothing to delete in %s", tilde(dir))
		return nil
	}
	state, err := stack.Read(ctx, dir)
	if err == nil && state.Running() { // before it asks
		err = &stack.RunningError{Servers: slices.DeleteFunc(state.Servers, func(s stack.Server) bool { return !s.Running })}
	}
	if err != nil {
		return p.stackError(ctx, err)
	}
	if err := p.confirm("deletes all databases, topics and connectors of the stack: " + strings.Join(doomed, ", ")); err != nil {
		return err
	}
	if err := stack.Reset(ctx, dir); err != nil {
		return p.stackError(ctx, err)
	}
	p.say("deleted")
	return nil
}

func (p *program) printStack(state stack.State) error {
	rows := [][]string{{"SERVER", "VERSION", "ADDRESS", "PROCESS", "MEMORY", "STATE", "LOG"}}
	for _, s := range state.Servers {
		rows = append(rows, []string{s.Name, orDash(s.Version), orDash(s.Addr), countOr(s.PID, ""), countOr(s.ResidentMiB, " MiB"), stateOf(s), tilde(s.Log)})
	}
	return p.print(state, rows)
}

func stateOf(s stack.Server) string {
	switch {
	case s.Healthy:
		return "healthy"
	case s.Running:
		return "unhealthy"
	default:
		return "down"
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func countOr(n int, unit string) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n) + unit
}

// stackNext is what to do with a stack that runs.
func (p *program) stackNext() string {
	lines := [][2]string{
		{p.command("dev --stack real"), "the application on it, events carried by walpost's relay"},
		{p.command("dev --stack real --relay debezium"), "the same, events carried by Debezium"},
		{p.stackCommand("down"), "stop it, the data is kept"},
	}
	text := "next:"
	for _, line := range lines {
		text += fmt.Sprintf("\n  %-*s  # %s", len(lines[1][0]), line[0], line[1]) // the second is the longest
	}
	return text
}

// stackCommand is how the person calls a command of the stack that he is using.
func (p *program) stackCommand(name string) string {
	return p.command(strings.TrimSpace("stack " + name))
}

// command is how the person calls a command on this stack.
func (p *program) command(words string) string {
	command := programName() + " " + words
	if p.cfg.Origin("stack-dir") == "flag --stack-dir" {
		command += " --stack-dir " + tilde(p.cfg.StackDir)
	}
	return command
}

// programName is how the person calls this program: what `go run` builds cannot be called by its name.
func programName() string {
	if self, err := os.Executable(); err == nil && strings.Contains(self, string(filepath.Separator)+"go-build") {
		return "go run ."
	}
	return "walpost"
}
