// Package cli is walpost's command line: flags, wiring and exit codes.
//
// One file is one command: a function that returns its *cobra.Command. What a command does stands in the other packages; what several commands run
// (the API server, the relay, the consumer) stands here as functions of a Config, which the single commands and `dev` call alike. Nobody imports it
// but main.
//
// The invariant: results go to stdout, talk and errors to stderr, and every way to end has its exit code from the one table in exit.go.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/relay"
)

// Main runs the command that args name and returns the exit code. SIGINT and SIGTERM cancel the command, which drains; a second one ends the
// process at once.
func Main(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := interruptible(ctx, stderr, os.Exit)
	defer stop()
	p := &program{stdin: os.Stdin, stdout: stdout, stderr: stderr, environ: config.Environ()}
	return p.run(ctx, args)
}

// program is what the commands of one run share.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string

	cfg config.Config // this command's; set with log before it runs
	log *slog.Logger
}

func (p *program) run(ctx context.Context, args []string) int {
	root := newRootCommand(p)
	root.SetArgs(args)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	var halt *relay.HaltError
	if errors.As(err, &halt) {
		err = halt // it says all that there is to say
	}
	for line := range strings.Lines(config.Redact(err.Error())) {
		_, _ = fmt.Fprintf(p.stderr, "walpost: %s\n", ops.Printable(strings.TrimSuffix(line, "\n"))) // nobody is left to tell
	}
	return exitCode(ctx, err)
}

// start reads the settings for a command whose flags are parsed.
func (p *program) start(cmd *cobra.Command) error {
	cfg, err := config.Load(config.Sources{Environ: p.environ, Flags: cmd.Flags()})
	if err != nil {
		return err
	}
	p.cfg = cfg
	level := cfg.LogLevel
	if cfg.Quiet {
		level = "error"
	}
	if p.log, err = ops.NewLogger(p.stderr, level, p.logFormat()); err != nil {
		return err
	}
	return nil
}

func (p *program) logFormat() string {
	if p.cfg.LogFormat == "auto" && p.cfg.NoColor && ops.IsTerminal(p.stderr) {
		return "text"
	}
	return p.cfg.LogFormat
}

// say tells the person at the terminal what goes on. It is not a result: scripts do not read it, --quiet silences it.
func (p *program) say(format string, args ...any) {
	if !p.cfg.Quiet {
		_, _ = fmt.Fprintf(p.stderr, format+"\n", args...) // talk is not worth failing for
	}
}
