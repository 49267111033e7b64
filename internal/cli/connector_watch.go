package cli

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
)

func newConnectorWatchCommand(p *program) *cobra.Command {
	var apply bool
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Restart the connector whenever it fails, which Kafka Connect never does",
		Long: `Restart the connector whenever it fails, with back-off, and report each step: Kafka Connect never does. With --apply the connector is made first,
and again when it is missing; Kafka Connect, database and slot that are not there yet are waited for. A connector that somebody stopped is left
alone; one that an interrupted apply has made is let go on. Its health is that of the connector. Exit code 4: there is no connector, and no --apply
to make it.`,
		Example: "  walpost connector watch --apply --connect-url http://connect:8083 --database-url postgres://relay@db/orders",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			run := watchConnector
			if apply {
				run = keepConnector
			}
			return p.serve(cmd.Context(), "walpost-connector", run)
		},
	}
	config.Flags(cmd.Flags(), append(append(configFlags(), connectorFlags()...), "wait", "ops-addr=127.0.0.1:9467", "ops-public")...)
	cmd.Flags().BoolVar(&apply, "apply", false, "make the connector first, and whenever it is missing")
	return cmd
}

// watchConnector restarts a connector that is there until ctx ends, which it returns nil for.
func watchConnector(ctx context.Context, cfg config.Config, o *ops.Ops) error {
	return watch(ctx, cfg, o, debezium.WatchConfig{})
}

// keepConnector makes the connector as well, unless somebody has stopped it. It leaves it running when ctx ends.
func keepConnector(ctx context.Context, cfg config.Config, o *ops.Ops) error {
	return applyAndWatch(ctx, cfg, o, debezium.WatchConfig{})
}

// runConnector is keepConnector for who has just been told to let Debezium publish: it also resumes at first what somebody stopped.
func runConnector(ctx context.Context, cfg config.Config, o *ops.Ops) error {
	return applyAndWatch(ctx, cfg, o, debezium.WatchConfig{Resume: true})
}

func applyAndWatch(ctx context.Context, cfg config.Config, o *ops.Ops, w debezium.WatchConfig) error {
	c, err := connectorConfig(cfg)
	if err != nil {
		return err
	}
	if _, err := c.Connector(); err != nil {
		return misuse(err)
	}
	w.Apply = func(ctx context.Context) error {
		_, notes, err := applyConnector(ctx, cfg)
		for _, note := range notes {
			o.Log.Warn("note on the connector", "connector", connectorName(cfg), "note", note)
		}
		return err
	}
	return watch(ctx, cfg, o, w)
}

func watch(ctx context.Context, cfg config.Config, o *ops.Ops, w debezium.WatchConfig) error {
	client, err := connectClient(cfg)
	if err != nil {
		return err
	}
	name := connectorName(cfg)
	log := o.Log.With("connector", name)
	var last atomic.Pointer[debezium.WatchEvent]
	w.Report = func(e debezium.WatchEvent) {
		last.Store(&e)
		logConnector(log, e)
	}
	o.Health.Register("connector", func(context.Context) error { return connectorHealth(name, last.Load()) })
	o.Health.Started()
	return connectError(cfg, client.Watch(ctx, name, w))
}

func connectorHealth(name string, e *debezium.WatchEvent) error {
	switch {
	case e == nil:
		return fmt.Errorf("connector %s has not been looked at yet", name)
	case e.Step == debezium.WatchRunning:
		return nil
	case e.Step == debezium.WatchPaused:
		return ops.Warning(fmt.Errorf("connector %s: somebody stopped it", name)) // on purpose
	case e.Err != nil:
		return e.Err
	}
	return fmt.Errorf("connector %s: %s", name, e.Step)
}

// logConnector says a step in the words of an operator.
func logConnector(log *slog.Logger, e debezium.WatchEvent) {
	switch e.Step {
	case debezium.WatchRunning:
		log.Info("the connector runs")
	case debezium.WatchApplied:
		log.Info("the connector is applied")
	case debezium.WatchNotApplied:
		log.Warn("the connector cannot be applied yet", "attempt", e.Attempt, "retry_in", e.Wait, "error", e.Err)
	case debezium.WatchFailed:
		for _, part := range e.Status.Failed() {
			log.Error("the connector has failed", "task", part.Task, "cause", string(part.Explanation.Cause), "meaning", part.Explanation.Meaning,
				"next", part.Explanation.Next, "attempt", e.Attempt, "retry_in", e.Wait)
		}
	case debezium.WatchRestarted:
		log.Info("the connector is restarted", "attempt", e.Attempt)
	case debezium.WatchPaused:
		log.Warn("somebody stopped the connector: it is left alone until `walpost connector resume`", "state", string(e.Status.Connector.State))
	case debezium.WatchUnassigned:
		log.Info("the connector is on its way to a worker")
	case debezium.WatchUnavailable:
		log.Warn("Kafka Connect does not answer as it should", "error", e.Err)
	}
}
