package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/devstack/stack"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/relay/pgwal"
)

const (
	// connectorStop bounds how long a connector gets to leave the slot: it writes down its position first.
	connectorStop = 20 * time.Second

	// realStopTimeout is stopTimeout with Debezium, whose stop is Kafka Connect's matter.
	realStopTimeout = connectorStop + stopTimeout

	// realRelayTimeout is relayTimeout with Debezium: a JVM begins slowly on a busy machine, and a killed dev's relay holds the slot for a while.
	realRelayTimeout = 3 * time.Minute
)

// onRealStack reports whether dev runs on the servers of `stack`, which outlive it.
func (d *dev) onRealStack() bool { return d.cfg.Stack == "real" }

func (d *dev) stopLimit() time.Duration {
	if d.onRealStack() {
		return realStopTimeout
	}
	return stopTimeout
}

// checkStack refuses what only the other of the two stacks has.
func (d *dev) checkStack(reset bool) error {
	switch {
	case d.onRealStack() && reset:
		return misused("--reset deletes the data of the embedded system: that of the real stack goes with `%s`", d.program.stackCommand("reset"))
	case !d.onRealStack() && d.cfg.Relay == "debezium":
		return misused("--relay debezium needs Kafka Connect: add --stack real")
	}
	return nil
}

// useRealStack starts what does not run of the stack and prepares tables and topics. dev leaves the servers running.
func (d *dev) useRealStack(ctx context.Context) error {
	cfg, err := d.program.stackConfig()
	if err != nil {
		return err
	}
	state, err := stack.Up(ctx, cfg)
	if err != nil {
		return d.program.stackError(ctx, err)
	}
	if err := stackVerdict(state); err != nil {
		return err
	}
	d.real = state
	d.cfg.DatabaseURL, d.cfg.KafkaBrokers, d.cfg.ConnectURL = state.DatabaseURL, state.Brokers, state.ConnectURL
	if err := d.phase("tables", func() error { return migrateUp(ctx, d.cfg, io.Discard) }); err != nil {
		return err
	}
	return d.phase("topics", func() error {
		_, err := ensureTopics(ctx, d.cfg)
		return err
	})
}

// runsOn says in words what carries the events.
func (d *dev) runsOn() string {
	if !d.onRealStack() {
		return "development broker (not Kafka)"
	}
	relay := "walpost's relay"
	if d.cfg.Relay == "debezium" {
		_, relay, _ = strings.Cut(d.real.Server(stack.Connect).Version, " with ")
	}
	return fmt.Sprintf("Kafka %s, events by %s", d.real.Server(stack.Kafka).Version, relay)
}

// startPublisher starts who carries the events and returns when it reads the log. The relays take turns at one slot, which is how one hands over its
// position to the other: Debezium is stopped before walpost's relay begins, and whenever dev ends.
func (d *dev) startPublisher(ctx context.Context) error {
	if d.cfg.Relay == "debezium" {
		return d.phase("Debezium", func() error {
			if err := pgwal.CreateSlot(ctx, walConfig(d.cfg)); err != nil && !errors.Is(err, pgwal.ErrSlotExists) {
				return slotError(d.cfg, err)
			}
			d.startPart(ctx, "Debezium", runWhileDev)
			return d.awaitRelay(ctx, realRelayTimeout)
		})
	}
	if d.onRealStack() {
		if err := d.phase("Debezium", func() error { return stopConnector(ctx, d.cfg) }); err != nil {
			return err
		}
	}
	d.startPart(ctx, "relay", runRelay)
	return d.phase("relay", func() error { return d.awaitRelay(ctx, relayTimeout) })
}

// runWhileDev is runConnector with a connector that stops when dev does.
func runWhileDev(ctx context.Context, cfg config.Config, o *ops.Ops) error {
	err := runConnector(ctx, cfg, o)
	return errors.Join(err, stopConnector(context.WithoutCancel(ctx), cfg))
}

// stopConnector makes the slot free. Where there is no connector, it is.
func stopConnector(ctx context.Context, cfg config.Config) error {
	ctx, cancel := context.WithTimeoutCause(ctx, connectorStop, fmt.Errorf("not within %s", connectorStop))
	defer cancel()
	client, err := connectClient(cfg)
	if err != nil {
		return err
	}
	_, err = client.Stop(ctx, connectorName(cfg))
	if errors.Is(err, debezium.ErrNotFound) {
		return nil
	}
	return connectError(cfg, err)
}
