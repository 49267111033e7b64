package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/relay"
)

// Run is Main for tests: without signals, with an environment and an input of the test's own.
func Run(ctx context.Context, stdin io.Reader, stdout, stderr io.Writer, environ, args []string) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, environ: environ}
	return p.run(ctx, args)
}

// Interruptible is how Main hears signals; exit replaces os.Exit.
func Interruptible(ctx context.Context, stderr io.Writer, exit func(int)) (context.Context, func()) {
	return interruptible(ctx, stderr, exit)
}

// Serve runs a part of the test's own as a server does.
func Serve(ctx context.Context, log *slog.Logger, run func(ctx context.Context, o *ops.Ops) error) error {
	p := &program{cfg: config.Config{OpsAddr: "127.0.0.1:0"}, log: log}
	return p.serve(ctx, "test", func(ctx context.Context, _ config.Config, o *ops.Ops) error { return run(ctx, o) })
}

// Reference is docs/commands.md.
func Reference() string {
	root := newRootCommand(&program{})
	var b strings.Builder
	fmt.Fprintf(&b, "# Commands\n\nMade from the commands themselves by `go test ./internal/cli -run Reference -update`.\n\n%s\n", root.Long)
	fmt.Fprintf(&b, "A flag is stronger than the environment, which is stronger than the file. `walpost config print` says where each value comes from.\n")
	fmt.Fprintf(&b, "A secret may stand in a file that a variable names: `WALPOST_DATABASE_URL_FILE`. `DATABASE_URL`, `KAFKA_BROKERS` and `PORT` are heard as well.\n")
	fmt.Fprintf(&b, "\nFlags of every command:\n\n%s", flagTable(root.PersistentFlags()))
	describe(&b, root.Commands())
	fmt.Fprintf(&b, "\n## Exit codes\n\n| code | meaning |\n|---|---|\n")
	meanings := make(map[int]string)
	for _, exit := range exits {
		meanings[exit.code] = cmp.Or(exit.meaning, meanings[exit.code])
	}
	for cause := relay.SlotMissing; cause <= relay.Unpublishable; cause++ {
		meanings[cause.ExitCode()] = "the relay halted: " + strings.ReplaceAll(cause.String(), "_", " ")
	}
	for _, code := range slices.Sorted(maps.Keys(meanings)) {
		fmt.Fprintf(&b, "| %d | %s |\n", code, meanings[code])
	}
	return b.String()
}

func describe(b *strings.Builder, commands []*cobra.Command) {
	for _, cmd := range commands {
		if cmd.HasSubCommands() {
			describe(b, cmd.Commands())
			continue
		}
		if cmd.Hidden || cmd.Name() == "help" {
			continue
		}
		fmt.Fprintf(b, "\n## %s\n\n%s\n", nameOf(cmd), cmp.Or(cmd.Long, cmd.Short+"."))
		fmt.Fprintf(b, "\n```\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
		if table := flagTable(cmd.LocalNonPersistentFlags()); table != "" {
			fmt.Fprintf(b, "\n%s", table)
		}
	}
}

func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		if b.Len() == 0 {
			b.WriteString("| flag | default | |\n|---|---|---|\n")
		}
		value := strings.Trim(f.DefValue, "[]")
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, value, f.Usage)
	})
	return b.String()
}
