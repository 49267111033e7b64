package cli

import "github.com/spf13/cobra"

func newConnectorCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{
		Use:   "connector",
		Short: "Configure and run the Debezium connector on Kafka Connect",
	})
}
