package cli

import "github.com/spf13/cobra"

func newBenchCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{
		Use:   "bench",
		Short: "Measure the relays and the whole way, and write the report",
	})
}
