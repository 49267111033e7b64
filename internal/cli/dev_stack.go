package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/walpost/walpost/internal/devstack/stack"
)

const (
	// connectorStop bounds how long a connector gets to leave the slot: it writes down its position first.
	connectorStop = 20 * time.Second

	// realStopTimeout is stopTimeout with Debezium, whose stop is Kafka Connect's matter.
	realStopTimeout = connectorStop + stopTimeout
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
