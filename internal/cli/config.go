package cli

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walpost/walpost/internal/config"
)

func newConfigCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{Use: "config", Short: "Show the settings"}, newConfigPrintCommand(p))
}

func newConfigPrintCommand(p *program) *cobra.Command {
	return &cobra.Command{
		Use:   "print [command]",
		Short: "Print each setting with its value and where that comes from",
		Long: `Print each setting with its value and where that comes from: default, file, environment or flag. Secrets are masked.
With a command, only the settings that it has flags for, with its defaults.`,
		Example: "  walpost config print\n  walpost config print relay --output yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			values := p.cfg.Values()
			if len(args) > 0 {
				target, rest, err := cmd.Root().Find(args)
				if err != nil || len(rest) > 0 || target == cmd.Root() {
					return unknownCommand(cmd.Root(), args)
				}
				if values, err = p.valuesOf(target); err != nil {
					return err
				}
			}
			rows := [][]string{{"KEY", "VALUE", "ORIGIN"}}
			for _, v := range values {
				rows = append(rows, []string{v.Key, v.Value, v.Origin})
			}
			return p.print(values, rows)
		},
	}
}

// valuesOf reads the settings as the target command would read them.
func (p *program) valuesOf(target *cobra.Command) ([]config.Value, error) {
	cfg, err := config.Load(config.Sources{Environ: p.environ, Flags: target.Flags()})
	if err != nil {
		return nil, err
	}
	var keys []string
	target.LocalFlags().VisitAll(func(f *pflag.Flag) { keys = append(keys, f.Name) })
	return cfg.Values(keys...), nil
}
