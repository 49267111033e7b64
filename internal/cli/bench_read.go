package cli

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/bench"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/relay"
)

// newBenchReadCommand is what `bench relay` starts to measure reading alone in a process of its own. It is hidden: nobody else has a use for it.
func newBenchReadCommand(p *program) *cobra.Command {
	var until string
	cmd := &cobra.Command{
		Use:    "read",
		Hidden: true,
		Short:  "Read a slot to a position and throw the events away",
		Long: `Internal: what bench relay runs to measure reading and decoding alone, without Kafka. It reads the slot up to the position through walpost's source, throws
every event away, confirms it as if it were published, and prints how many there were. What it has read is gone from the slot.`,
		Example: "  walpost bench read --slot a_copy --until 0/1A2B3C4",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			end, err := relay.ParseLSN(until)
			if err != nil {
				return misused("flag --until: %q is not a position in the log, such as 0/1A2B3C4", until)
			}
			from := walConfig(p.cfg)
			from.Logger = p.log
			result, err := bench.Read(cmd.Context(), from, end)
			if err != nil {
				return err
			}
			return p.print(result, [][]string{{"EVENTS"}, {strconv.Itoa(result.Events)}})
		},
	}
	config.Flags(cmd.Flags(), "database-url", "slot", "publication", "table")
	cmd.Flags().StringVar(&until, "until", "", "position in the log to stop at")
	return cmd
}
