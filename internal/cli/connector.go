package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/config"
)

func newConnectorCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{
		Use:   "connector",
		Short: "Configure and run the Debezium connector on Kafka Connect",
		Long: `Configure and run the Debezium connector on Kafka Connect: the other relay, which publishes the same records. Both may share a slot, one at a time:
` + "`walpost connector stop`" + ` leaves it to ` + "`walpost relay`" + `, ` + "`walpost connector resume`" + ` takes it back.`,
	}, newConnectorPlanCommand(p), newConnectorApplyCommand(p), newConnectorStatusCommand(p), newConnectorRestartCommand(p),
		newConnectorStopCommand(p), newConnectorResumeCommand(p), newConnectorDeleteCommand(p), newConnectorWatchCommand(p))
}

// connectorFlags name a connector.
func connectorFlags() []string { return []string{"connect-url", "connector", "raw"} }

// configFlags describe one.
func configFlags() []string {
	return []string{
		"database-url", "table", "slot", "publication", "topic", "raw-topic", "partitions", "replication-factor", "connector-database", "connector-password",
		"connector-sslrootcert", "connector-exactly-once", "connector-poll", "connector-batch", "connector-compression",
	}
}

func newConnectorPlanCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would change, and what stands against it",
		Long: `Show the difference between the connector that the settings describe and the one that runs, and what stands against it: what Kafka Connect and
Debezium refuse, and what PostgreSQL lacks. It changes nothing. Exit code 0: it can be applied, 1: it cannot.`,
		Example: `  walpost connector plan --connect-url http://connect:8083 --database-url postgres://relay@db/orders --output json
  walpost connector plan --connector-database postgres:5432 --connector-password '${file:/etc/walpost/db.properties:password}'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := planConnector(cmd.Context(), p.cfg)
			if err != nil {
				return err
			}
			if err := p.print(plan, textRows(plan.String())); err != nil {
				return err
			}
			if len(plan.Problems) > 0 {
				return fmt.Errorf("connector %s cannot be applied: mend what is marked with ! first", plan.Name)
			}
			return nil
		},
	}
	config.Flags(cmd.Flags(), append(configFlags(), connectorFlags()...)...)
	return cmd
}

func newConnectorApplyCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the connector as the settings describe it, and wait until it runs",
		Long: `Make the connector as the settings describe it, and wait until it runs. What runs as wanted is left alone, what failed is restarted, what was
stopped is resumed. A connector that was stopped or deleted goes on at its own position, or where another reader has brought the slot since. Nothing is
applied while the publication or the slot is missing, since Debezium would make a slot that begins at the present and skip what was committed before; nor
while another reader, such as ` + "`walpost relay`" + `, holds the slot.
Exit code 0: it runs, 1: refused, 3: applied, and it does not run, 4: there is no slot, 5: another reader holds the slot.`,
		Example: `  walpost migrate up && walpost slot create && walpost connector apply
  walpost connector apply --raw --slot raw    # rows for walpost kafka-consumer --forward`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			status, notes, err := applyConnector(cmd.Context(), p.cfg)
			for _, note := range notes {
				p.say("note: %s", note)
			}
			if err != nil {
				return err
			}
			p.say("connector %s runs", status.Name)
			return p.printConnector(status)
		},
	}
	config.Flags(cmd.Flags(), append(append(configFlags(), connectorFlags()...), "wait")...)
	return cmd
}

// connectorPlan is the machine-readable plan.
type connectorPlan struct {
	debezium.Plan
	State    debezium.State `json:"state"`    // of the connector as it is; empty: there is none
	Warnings []string       `json:"warnings"` // what is not as one may expect, and no reason not to apply
}

// String adds to the plan what else apply would do.
func (p connectorPlan) String() string {
	lines := []string{p.Plan.String()}
	switch p.State {
	case "":
		lines = append(lines, "apply makes it STOPPED, compares what Kafka Connect may remember of an earlier one with the slot, and resumes it")
	case debezium.Paused, debezium.Stopped:
		lines = append(lines, fmt.Sprintf("it is %s, and apply resumes it", p.State))
	case debezium.Failed:
		lines = append(lines, "it is FAILED, and apply restarts it")
	}
	for _, warning := range p.Warnings {
		lines = append(lines, "note: "+warning)
	}
	return strings.Join(lines, "\n")
}

func planConnector(ctx context.Context, cfg config.Config) (connectorPlan, error) {
	client, err := connectClient(cfg)
	if err != nil {
		return connectorPlan{}, err
	}
	wanted, err := describeConnector(ctx, cfg)
	if err != nil {
		return connectorPlan{}, err
	}
	found, err := findConnector(ctx, client, wanted.config["name"])
	if err != nil {
		return connectorPlan{}, connectError(cfg, err)
	}
	plan := connectorPlan{State: found.state(), Warnings: append([]string{}, wanted.warnings...)}
	if plan.Plan, err = client.Plan(ctx, wanted.config); err != nil {
		return connectorPlan{}, connectError(cfg, err)
	}
	plan.Changes, plan.Problems = append([]debezium.Change{}, plan.Changes...), append([]debezium.Problem{}, plan.Problems...) // [] in JSON
	problems := wanted.problems
	if err := checkSlot(ctx, cfg, found); err != nil && !slices.ContainsFunc(problems, func(p error) bool { return p.Error() == err.Error() }) {
		problems = append(problems, err)
	}
	for _, problem := range problems {
		plan.Problems = append(plan.Problems, debezium.Problem{Message: config.Redact(problem.Error())})
	}
	return plan, nil
}

// applyConnector returns the running connector. Whatever the end, the notes are worth saying.
func applyConnector(ctx context.Context, cfg config.Config) (status debezium.Status, notes []string, err error) {
	client, err := connectClient(cfg)
	if err != nil {
		return status, nil, err
	}
	wanted, err := describeConnector(ctx, cfg)
	if err != nil {
		return status, nil, err
	}
	notes = wanted.warnings
	found, err := findConnector(ctx, client, wanted.config["name"])
	if err != nil {
		return status, notes, connectError(cfg, err)
	}
	if len(wanted.problems) > 0 {
		return status, notes, wanted.problems[0]
	}
	if err := awaitSlot(ctx, cfg, found); err != nil {
		return status, notes, err
	}
	note, err := placeConnector(ctx, client, cfg, found, wanted.config)
	if err != nil {
		return status, notes, connectError(cfg, err)
	}
	if note != "" {
		notes = append(notes, note)
	}
	status, err = client.Apply(ctx, wanted.config, cfg.Wait)
	return status, notes, connectError(cfg, err)
}

// textRows prints lines as they are where others print a table.
func textRows(text string) [][]string {
	var rows [][]string
	for _, line := range strings.Split(text, "\n") {
		rows = append(rows, []string{line})
	}
	return rows
}
