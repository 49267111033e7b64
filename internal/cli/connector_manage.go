package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/config"
)

func newConnectorStatusCommand(p *program) *cobra.Command {
	return p.manageCommand(&cobra.Command{
		Use:   "status",
		Short: "Say whether the connector runs, and if not, why and what to do",
		Long: `Say whether the connector runs, and if not, why and what to do. RUNNING is Kafka Connect's word, which it also gives to a connector that waits
for its database: whether events flow is seen at the slot, with ` + "`walpost slot status`" + `.
Exit code 0: it runs, 3: it failed, is stopped or on its way, 4: there is none.`,
		Example: "  walpost connector status --output json",
	}, func(ctx context.Context, client *debezium.Client, name string) error {
		status, err := client.Status(ctx, name)
		if err != nil {
			return err
		}
		if err := p.printConnector(status); err != nil {
			return err
		}
		return connectorVerdict(status)
	})
}

func newConnectorRestartCommand(p *program) *cobra.Command {
	return p.manageCommand(&cobra.Command{
		Use:   "restart",
		Short: "Restart what failed of the connector, and wait until it runs",
		Long: `Restart what failed of the connector, and wait until it runs. What runs is left alone; what is stopped stays so.
Exit code 0: it runs, 3: it does not, 4: there is none, or no slot, 5: another reader holds the slot.`,
		Example: "  walpost connector restart --wait 2m",
	}, func(ctx context.Context, client *debezium.Client, name string) error {
		status, err := client.Status(ctx, name)
		if err != nil {
			return err
		}
		for _, part := range status.Failed() {
			p.say("restarting what failed: %s", part.Explanation.Meaning)
		}
		switch {
		case len(status.Failed()) > 0:
			if status, err = p.resumeConnector(ctx, client, name); err != nil {
				return err
			}
		case status.Running():
			p.say("nothing of it has failed")
		}
		if err := p.printConnector(status); err != nil {
			return err
		}
		return connectorVerdict(status)
	}, "wait", "database-url")
}

func newConnectorStopCommand(p *program) *cobra.Command {
	return p.manageCommand(&cobra.Command{
		Use:   "stop",
		Short: "Stop the connector, so that its slot is free for walpost's relay",
		Long: `Stop the connector and wait until its task has written down its position and left the slot, which then is free for ` + "`walpost slot adopt`" + `
and ` + "`walpost relay`" + `.
It stays stopped until ` + "`walpost connector resume`" + ` or apply. Exit code 0: it is stopped, 3: not within --wait, 4: there is none.`,
		Example: "  walpost connector stop && walpost slot adopt && walpost relay",
	}, func(ctx context.Context, client *debezium.Client, name string) error {
		status, err := p.stopConnector(ctx, client, name)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return unhealthy("%w: look at it with `walpost connector status`, or give it more time with --wait", err)
		}
		if err != nil {
			return err
		}
		p.say("connector %s is stopped; its slot keeps what is written until it is resumed or walpost's relay takes over", name)
		return p.printConnector(status)
	}, "wait")
}

func newConnectorResumeCommand(p *program) *cobra.Command {
	return p.manageCommand(&cobra.Command{
		Use:   "resume",
		Short: "Let a connector that was stopped or paused go on, and wait until it runs",
		Long: `Let a connector that was stopped or paused go on, and wait until it runs. Stop walpost's relay first: two cannot read one slot.
Exit code 0: it runs, 3: it does not, 4: there is none, or no slot, 5: another reader holds the slot.`,
		Example: "  walpost connector resume",
	}, func(ctx context.Context, client *debezium.Client, name string) error {
		status, err := p.resumeConnector(ctx, client, name)
		if err != nil {
			return err
		}
		p.say("connector %s runs", name)
		return p.printConnector(status)
	}, "wait", "database-url")
}

// resumeConnector looks at the slot first: of one that another reader holds Debezium says nothing for minutes, and RUNNING all the while.
func (p *program) resumeConnector(ctx context.Context, client *debezium.Client, name string) (debezium.Status, error) {
	found, err := findConnector(ctx, client, name)
	if err != nil {
		return debezium.Status{}, err
	}
	if !found.exists {
		return debezium.Status{}, debezium.ErrNotFound
	}
	cfg := p.cfg
	cfg.Slot = found.slot
	if err := awaitSlot(ctx, cfg, found); err != nil {
		return debezium.Status{}, err
	}
	note, err := adopt(ctx, client, cfg, found)
	if err != nil {
		return debezium.Status{}, err
	}
	if note != "" {
		p.say("note: %s", note)
	}
	return client.Resume(ctx, name, cfg.Wait)
}

func newConnectorDeleteCommand(p *program) *cobra.Command {
	return p.manageCommand(&cobra.Command{
		Use:   "delete",
		Short: "Delete the connector; its slot and its position stay",
		Long: `Stop the connector, delete it from Kafka Connect, and say what it leaves behind: its slot, for which PostgreSQL goes on keeping its log, and its position.
` + "`walpost connector apply`" + ` makes it again, and it goes on from that position, or from where another has read the slot since.
It asks first; --yes answers. Exit code 0: it is gone, 4: there is none.`,
		Example: "  walpost connector delete --yes",
	}, func(ctx context.Context, client *debezium.Client, name string) error {
		if _, err := client.Config(ctx, name); err != nil {
			return err
		}
		deed := fmt.Sprintf("connector %s will be stopped and deleted from Kafka Connect at %s; its slot stays", name, config.Redact(p.cfg.ConnectURL))
		if err := p.confirm(deed); err != nil {
			return err
		}
		if _, err := p.stopConnector(ctx, client, name); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		remains, err := client.Delete(ctx, name)
		if err != nil {
			return err
		}
		p.say("connector %s is deleted", name)
		return p.print(remains, textRows(remains.String()))
	}, "wait")
}

// stopConnector gives up after --wait.
func (p *program) stopConnector(ctx context.Context, client *debezium.Client, name string) (debezium.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Wait)
	defer cancel()
	return client.Stop(ctx, name)
}

// manageCommand completes a command that acts on a connector which is there.
func (p *program) manageCommand(cmd *cobra.Command, run func(ctx context.Context, client *debezium.Client, name string) error, flags ...string) *cobra.Command {
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := connectClient(p.cfg)
		if err != nil {
			return err
		}
		return connectError(p.cfg, run(cmd.Context(), client, connectorName(p.cfg)))
	}
	config.Flags(cmd.Flags(), append(connectorFlags(), flags...)...)
	return cmd
}

// connectorStatus is the machine-readable status.
type connectorStatus struct {
	debezium.Status
	Running bool `json:"running"`
}

func (p *program) printConnector(status debezium.Status) error {
	status.Tasks = append([]debezium.Part{}, status.Tasks...) // [] in JSON
	return p.print(connectorStatus{status, status.Running()}, textRows(status.String()))
}

// connectorVerdict is nil for a connector that runs.
func connectorVerdict(status debezium.Status) error {
	failed := status.Failed()
	switch {
	case status.Running():
		return nil
	case len(failed) > 0:
		return unhealthy("connector %s has failed: %s", status.Name, failed[0].Explanation.Next)
	case status.Idle():
		return unhealthy("connector %s is %s: let it go on with `walpost connector resume`", status.Name, status.Connector.State)
	}
	return unhealthy("connector %s does not run yet: look again in a moment", status.Name)
}
