package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walpost/walpost/internal/bench"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/devstack/maven"
	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/ops"
)

func newBenchCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{
		Use:   "bench",
		Short: "Measure the relays and the whole way, and write the report",
		Long: `Measure walpost's relay, alone and against Debezium, on a PostgreSQL, Kafka and Kafka Connect of their own, which are started for it and removed afterwards, and
write the report with its plots. Figures mean something only on a machine that does nothing else.`,
	}, newBenchRelayCommand(p), newBenchPathCommand(p), newBenchSoakCommand(p), newBenchReportCommand(p), newBenchReadCommand(p))
}

// benchFlags are those that the measurements have. What stands in it before it is registered are the defaults.
type benchFlags struct {
	against  []string
	duration time.Duration
	repeats  int
	out, dir string
	kafkaDir string
}

func (f *benchFlags) register(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.duration, "duration", f.duration, "length of a measurement, after 2s of warm-up")
	cmd.Flags().StringVar(&f.out, "out", "bench-results", "folder for the report; its results are below "+bench.Folder+"/")
	cmd.Flags().StringVar(&f.dir, "dir", "", "empty folder for the servers' data, which is kept; a temporary one when empty")
	cmd.Flags().StringVar(&f.kafkaDir, "kafka-dir", "", "folder on a disk of Kafka's own, in which its data is while it is measured; with the rest when empty")
	config.Flags(cmd.Flags(), "pg-bin")
}

// registerTurns adds those of measurements in which contestants take turns.
func (f *benchFlags) registerTurns(cmd *cobra.Command) {
	f.register(cmd)
	cmd.Flags().StringSliceVar(&f.against, "against", f.against, "contestants besides walpost: "+strings.Join(bench.Against(), ", "))
	cmd.Flags().IntVar(&f.repeats, "repeats", f.repeats, "how often everything is measured, in turns")
	config.Flags(cmd.Flags(), "connect-heap=2048")
}

func newBenchRelayCommand(p *program) *cobra.Command {
	f := benchFlags{against: bench.Against(), duration: 8 * time.Second, repeats: 5}
	var rows, alone, huge int
	var hugeAgainst []string
	var rates []int
	cmd := &cobra.Command{
		Use:   "relay",
		Short: "Measure the relays: backlog, latency, processor time, memory, losses",
		Long: `Measure the relays against each other: how fast each drains a backlog, how long an event takes at several rates and alone, and what each takes of
processor time and memory; beside them what reading the backlog alone takes, for walpost with decoding, and what walpost holds of one huge transaction. Every
event is accounted for by its id; one that is lost, or out of its key's order, fails the run. Contestants take turns, in another order each round; Debezium's
default and what connector apply sets sit every other one out. The results are written to --out, with a report and plots. With everything at its default it
takes about 25 minutes on two cores.

Java 17 and, for the first time, Maven are needed; PostgreSQL 15 or newer.`,
		Example: "  walpost bench relay\n  walpost bench relay --rows 20000 --rates 1000 --repeats 1 --duration 5s   # a first look, in two minutes",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := bench.RelayConfig{
				Deliveries: config.Deliveries(), Against: f.against, Rows: rows, Rates: rates, Duration: f.duration, Alone: alone, Repeats: f.repeats, Command: typed(cmd),
				Huge: huge, HugeAgainst: hugeAgainst,
			}
			if err := cfg.Validate(); err != nil {
				return misuse(err)
			}
			return p.bench(cmd.Context(), f, cfg.Estimate(), func(ctx context.Context, stack bench.Stack) (any, [][]string, error) {
				cfg.Stack = stack
				results, err := bench.RunRelay(ctx, cfg)
				if err != nil {
					return nil, nil, err
				}
				return results, benchTable(bench.DrainTable(results), bench.ReadTable(results), bench.LatencyTable(results), bench.AloneTable(results), bench.RatioTable(results), bench.HugeTable(results)), bench.SaveRelay(f.out, results)
			})
		},
	}
	f.registerTurns(cmd)
	cmd.Flags().IntVar(&rows, "rows", 300_000, "one-row transactions of the backlog")
	cmd.Flags().IntVar(&alone, "alone", 200, "events of a round that are written one at a time; 0: leave this out")
	cmd.Flags().IntVar(&huge, "huge", 1_000_000, "rows of one transaction, which walpost carries once in each delivery; 0: leave this out")
	cmd.Flags().StringSliceVar(&hugeAgainst, "huge-against", nil, "contestants of --against that carry it too")
	cmd.Flags().IntSliceVar(&rates, "rates", []int{100, 1000, 5000}, "events a second at which latency is measured")
	return cmd
}

func newBenchPathCommand(p *program) *cobra.Command {
	f := benchFlags{against: bench.Carrying(), duration: 10 * time.Second, repeats: 3}
	var clients int
	cmd := &cobra.Command{
		Use:   "path",
		Short: "Measure the whole way, from the request to the mail, with each relay",
		Long: `Measure the whole application with each relay in turn: API server, relay, Kafka, consumer and mail, as processes of their own. Each client registers again as
soon as it is answered; the way of every registration is followed hop by hop. A registration without a mail fails the run. The results are written to --out,
with a report and plots.`,
		Example: "  walpost bench path --clients 4 --duration 30s",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := bench.PathConfig{
				Deliveries: config.Deliveries(), Against: f.against, Clients: clients, Duration: f.duration, Repeats: f.repeats, Command: typed(cmd),
			}
			if err := cfg.Validate(); err != nil {
				return misuse(err)
			}
			return p.bench(cmd.Context(), f, cfg.Estimate(), func(ctx context.Context, stack bench.Stack) (any, [][]string, error) {
				cfg.Stack = stack
				results, err := bench.RunPath(ctx, cfg)
				if err != nil {
					return nil, nil, err
				}
				return results, benchTable(bench.PathTable(results)), bench.SavePath(f.out, results)
			})
		},
	}
	f.registerTurns(cmd)
	cmd.Flags().IntVar(&clients, "clients", 2, "clients that register at once")
	return cmd
}

func newBenchReportCommand(p *program) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:     "report",
		Short:   "Write the page and its plots from results",
		Long:    "Write performance.md and its plots from the results of bench relay, bench path and bench soak in a folder. The same results give the same bytes.",
		Example: "  walpost bench report --out docs",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			return p.report(out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "bench-results", "folder of the report; its results are below "+bench.Folder+"/")
	return cmd
}

// bench prepares what is measured, measures, saves, prints the result and writes the report.
func (p *program) bench(ctx context.Context, f benchFlags, estimate time.Duration,
	measure func(context.Context, bench.Stack) (any, [][]string, error),
) error {
	stack, err := p.benchStack(ctx, f)
	if err != nil {
		return err
	}
	p.say("measuring, about %s on two cores; Ctrl-C ends everything that is started", estimate.Round(time.Minute))
	results, rows, err := measure(ctx, stack)
	if err != nil {
		return err
	}
	if err := p.print(results, rows); err != nil {
		return err
	}
	return p.report(f.out)
}

func (p *program) report(out string) error {
	files, err := bench.WriteReport(out)
	if err != nil {
		return err
	}
	p.say("written to %s: %s", out, strings.Join(files, ", "))
	return nil
}

func (p *program) benchStack(ctx context.Context, f benchFlags) (bench.Stack, error) {
	parts, err := p.realParts(ctx)
	if err != nil {
		return bench.Stack{}, err
	}
	build := ops.ReadBuild()
	return bench.Stack{
		Program: parts.program, Version: build.Version + " " + build.Revision, Postgres: parts.postgres, Artifacts: parts.artifacts, Dir: f.dir, KafkaDir: f.kafkaDir,
		ConnectHeapMiB: p.cfg.ConnectHeap, Progress: progress{p},
	}, nil
}

// realParts are the programs of a real stack, walpost's own included.
type realParts struct {
	program   string
	postgres  postgres.Binaries
	artifacts maven.Artifacts
}

// realParts finds the programs on this machine, or fetches them.
func (p *program) realParts(ctx context.Context) (parts realParts, err error) {
	talk := progress{p}
	cache, err := maven.UserCache()
	if err != nil {
		return parts, fmt.Errorf("no folder to keep Kafka and Debezium in: %w", err)
	}
	if parts.artifacts, err = maven.Resolve(ctx, maven.Config{Dir: cache, Progress: talk}); err != nil {
		return parts, err
	}
	home, err := stackDir(p.cfg) // where stack up would fetch PostgreSQL to, so that it is there once
	if err != nil {
		return parts, err
	}
	fetched := filepath.Join(home, "postgresql")
	parts.postgres, err = postgres.Find(ctx, p.cfg.PGBin, fetched)
	if errors.Is(err, postgres.ErrNotFound) {
		parts.postgres, err = postgres.Fetch(ctx, fetched, postgres.FetchVersion, talk)
	}
	if err != nil {
		return parts, err
	}
	parts.program, err = os.Executable()
	return parts, err
}

// progress is what is told to the person at the terminal.
type progress struct{ p *program }

func (w progress) Write(text []byte) (int, error) {
	w.p.say("%s", strings.TrimSuffix(string(text), "\n"))
	return len(text), nil
}

// typed is the command with the flags that were given, in the order of their names.
func typed(cmd *cobra.Command) string {
	text := cmd.CommandPath()
	cmd.Flags().Visit(func(f *pflag.Flag) { text += " --" + f.Name + " " + strings.Trim(f.Value.String(), "[]") })
	return text
}

// benchTable puts tables under each other, with headings as the other commands print them.
func benchTable(tables ...[][]string) [][]string {
	var rows [][]string
	for _, table := range tables {
		if len(table) == 1 {
			continue // nothing below the heading
		}
		if rows != nil {
			rows = append(rows, []string{""})
		}
		var heading []string
		for _, cell := range table[0] {
			heading = append(heading, strings.ToUpper(strings.ReplaceAll(cell, "µs", "us")))
		}
		rows = append(append(rows, heading), table[1:]...)
	}
	return rows
}
