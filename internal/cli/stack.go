package cli

import "github.com/spf13/cobra"

func newStackCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{
		Use:   "stack",
		Short: "Run real Kafka, Kafka Connect and Debezium on this machine, without Docker",
	})
}
