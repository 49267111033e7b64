package cli

import "github.com/spf13/cobra"

// noArgs and oneArg are cobra's, with words that say what to do.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return misused("%s takes no argument, and got %q: see `%s --help`", nameOf(cmd), args[0], cmd.CommandPath())
	}
	return nil
}

func oneArg(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return misused("%s takes one argument, the %s, and got %d: see `%s --help`", nameOf(cmd), name, len(args), cmd.CommandPath())
		}
		return nil
	}
}
