package cli

import (
	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/ops"
)

func newVersionCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Say what this program was built from",
		Example: "  walpost version --output json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			b := ops.ReadBuild()
			return p.print(b, [][]string{{"walpost", b.Version}, {"revision", b.Revision}, {"go", b.GoVersion}, {"platform", b.Platform}})
		},
	}
}
