package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/bench"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/relay"
)

func newBenchSoakCommand(p *program) *cobra.Command {
	f := benchFlags{duration: 10 * time.Minute}
	var deliveries []string
	var rate int
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "Measure memory and lag of walpost's relay under a steady load",
		Long: `Hold walpost's relay to a steady load for a long time, and look ten times a second at its memory and at how far the position that its slot is confirmed to is
behind. Every event is accounted for by its id; one that is lost, or out of its key's order, fails the run. The results are written to --out, with a report
and a plot. The default writes 3 million events, which take some 10 GB of disk while it runs.`,
		Example: "  walpost bench soak\n  walpost bench soak --rate 1000 --duration 1m --deliveries exactly-once,at-least-once",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := bench.SoakConfig{Deliveries: deliveries, Rate: rate, Duration: f.duration, Command: typed(cmd)}
			if err := cfg.Validate(); err != nil {
				return misuse(err)
			}
			return p.bench(cmd.Context(), f, cfg.Estimate(), func(ctx context.Context, stack bench.Stack) (any, [][]string, error) {
				cfg.Stack = stack
				results, err := bench.RunSoak(ctx, cfg)
				if err != nil {
					return nil, nil, err
				}
				return results, benchTable(bench.SoakTable(results)), bench.SaveSoak(f.out, results)
			})
		},
	}
	f.register(cmd)
	cmd.Flags().IntVar(&rate, "rate", 5000, "events a second")
	cmd.Flags().StringSliceVar(&deliveries, "deliveries", []string{relay.ExactlyOnce.String()}, "of walpost's relay, one after the other: "+strings.Join(config.Deliveries(), ", "))
	return cmd
}
