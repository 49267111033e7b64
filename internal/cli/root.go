package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/walpost/walpost/internal/config"
)

const (
	groupRun   = "run"
	groupSetup = "setup"
	groupLook  = "look"
)

func newRootCommand(p *program) *cobra.Command {
	root := &cobra.Command{
		Use:   "walpost",
		Short: "Carry events out of a PostgreSQL transaction to Kafka, and apply them once",
		Long: `walpost carries events out of a PostgreSQL transaction to the people who must act on them: a service writes its data and an event in one
transaction, the relay reads the commit from the write-ahead log and publishes it to Kafka, and the consumer applies it once in its own database.

Every flag is also a key of the file that --config names and a variable of the environment: --slot is slot: and WALPOST_SLOT.`,
		Example: `  walpost dev                    # the whole system in one process, nothing else needed
  walpost migrate up             # make the tables, in the database of --database-url
  walpost relay --slot orders    # carry events to Kafka`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return p.start(cmd) },
	}
	config.Flags(root.PersistentFlags(), "config", "log-level", "log-format", "output", "quiet", "yes")
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run:"},
		&cobra.Group{ID: groupSetup, Title: "Set up:"},
		&cobra.Group{ID: groupLook, Title: "Look:"},
	)
	addGrouped(root, groupRun, newDevCommand(p), newStackCommand(p), newAPIServerCommand(p), newRelayCommand(p), newKafkaConsumerCommand(p))
	addGrouped(root, groupSetup, newMigrateCommand(p), newTopicsCommand(p), newSlotCommand(p), newConnectorCommand(p), newMaintainCommand(p))
	addGrouped(root, groupLook, newBenchCommand(p), newChaosCommand(p), newConfigCommand(p), newHealthcheckCommand(p), newVersionCommand(p), newCompletionCommand(p))
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(newHelpCommand())
	root.SetHelpCommandGroupID(groupLook)
	root.Args = unknownCommand
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return root
}

func addGrouped(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, cmd := range commands {
		cmd.GroupID = group
		root.AddCommand(cmd)
	}
}

// parent makes cmd a command that only has subcommands.
func parent(cmd *cobra.Command, children ...*cobra.Command) *cobra.Command {
	var words []string
	for _, child := range children {
		if !child.Hidden {
			words = append(words, child.Name())
		}
		cmd.AddCommand(child)
	}
	cmd.Args = unknownCommand
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return misused("%s needs a subcommand: %s", nameOf(cmd), strings.Join(words, ", "))
	}
	return cmd
}

// nameOf is the command as it is typed, without the program's own name.
func nameOf(cmd *cobra.Command) string {
	return strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()+" ")
}

// unknownCommand answers words that no subcommand took, for a command that has subcommands.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var words []string
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() {
			words = append(words, child.Name())
		}
	}
	if near := config.Nearest(args[0], words); near != "" {
		return misused("unknown command %q: did you mean %q?", args[0], cmd.CommandPath()+" "+near)
	}
	return misused("unknown command %q: `%s --help` lists the known ones", args[0], cmd.CommandPath())
}

func flagError(cmd *cobra.Command, err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return misused("flag --%s: %q is not %s", invalid.GetFlag().Name, invalid.GetValue(), kindOf(invalid.GetFlag().Value.Type()))
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return misused("%w: see `%s --help`", err, cmd.CommandPath())
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := config.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return misused("unknown flag --%s: did you mean --%s?", unknown.GetSpecifiedName(), near)
	}
	return misused("unknown flag --%s: `%s --help` lists the known ones", unknown.GetSpecifiedName(), cmd.CommandPath())
}

// kindOf names a flag's type for a person.
func kindOf(flagType string) string {
	switch flagType {
	case "bool":
		return "true or false"
	case "int", "int64":
		return "a whole number"
	case "uint64":
		return "a whole number, 0 or more"
	case "float64":
		return "a number"
	case "duration":
		return "a duration like 30s or 1h"
	default:
		return "a " + flagType
	}
}
