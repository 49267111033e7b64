package cli

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/chaos"
	"github.com/walpost/walpost/internal/config"
)

func newChaosCommand(p *program) *cobra.Command {
	var seed uint64
	var runs int
	var duration time.Duration
	var faults []string
	var dir string
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Hold exactly once against kills and cut connections, on a real stack",
		Long: `Run walpost's relay, delivering exactly once, on a PostgreSQL and a Kafka of their own, which are started for it and removed afterwards, while both servers and
the relay are killed, stopped and cut off from each other; then compare what a consumer of committed records finds with what was committed. Nothing may be
lost, doubled, made up or out of order, whatever happened. Faults and workload come from the seed: run n of a campaign is --runs 1 with the seed that is
printed for it. Which moment a fault meets is the machine's, so a flaw may need some repeats of its seed to show again.

What a run found stays in the folder, with the servers' data, the relays' logs and the history, if it found anything or --dir is given. Exit code 1 says
that a flaw was found. Java 17 and, for the first time, Maven are needed; PostgreSQL 15 or newer.`,
		Example: "  walpost chaos\n  walpost chaos --seed 4711 --runs 1 --faults relay-kill,server-kill --duration 1m",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kinds, err := chaos.ParseKinds(faults)
			if err != nil {
				return misuse(err)
			}
			cfg := chaos.Config{Seed: seed, Runs: runs, Duration: duration, Faults: kinds}
			if err := cfg.Validate(); err != nil {
				return misuse(err)
			}
			if !cmd.Flags().Changed("seed") {
				cfg.Seed = uint64(rand.Uint32())
			}
			return p.chaos(cmd.Context(), cfg, dir)
		},
	}
	var all []string
	for _, k := range chaos.Kinds() {
		all = append(all, string(k))
	}
	cmd.Flags().Uint64Var(&seed, "seed", 0, "seed of the first run, each further one has the next; a random one when not given")
	cmd.Flags().IntVar(&runs, "runs", 20, "how many runs")
	cmd.Flags().DurationVar(&duration, "duration", 20*time.Second, "length of the faults of a run, after which everything is healed and drained")
	cmd.Flags().StringSliceVar(&faults, "faults", all, "kinds of faults: "+strings.Join(all, ", "))
	cmd.Flags().StringVar(&dir, "dir", "", "empty folder for data, logs and histories, which are kept; a temporary one when empty")
	config.Flags(cmd.Flags(), "pg-bin")
	return cmd
}

func (p *program) chaos(ctx context.Context, cfg chaos.Config, dir string) error {
	parts, err := p.realParts(ctx)
	if err != nil {
		return err
	}
	cfg.Stack = chaos.Stack{Program: parts.program, Postgres: parts.postgres, Artifacts: parts.artifacts, Dir: dir, Progress: progress{p}}
	p.say("seed %d, %d runs, about %s on two cores; Ctrl-C ends everything that is started", cfg.Seed, cfg.Runs, cfg.Estimate().Round(time.Minute))
	report, err := chaos.Campaign(ctx, cfg)
	if report.Kept != "" {
		p.say("data, logs and histories are kept in %s", report.Kept)
	}
	if len(report.Runs) > 0 {
		err = errors.Join(err, p.print(report, benchTable(chaos.RunTable(report), chaos.FaultTable(report))))
	}
	if err == nil && !report.Good() {
		err = errors.New("the relay does not keep its word: " + report.Sum.Verdict.String())
	}
	return err
}
