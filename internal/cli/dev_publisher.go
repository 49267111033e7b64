package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

const (
	relayTimeout = 30 * time.Second

	// realRelayTimeout is relayTimeout with Debezium: a JVM begins slowly on a busy machine.
	realRelayTimeout = 3 * time.Minute
)

// startPublisher starts who carries the events and returns when it reads the log. The relays take turns at one slot, which is how one hands over its
// position to the other: Debezium is stopped before either begins, and whenever dev ends.
func (d *dev) startPublisher(ctx context.Context) error {
	if d.onRealStack() { // which others use as well
		if err := d.freeSlot(ctx); err != nil {
			return err
		}
	}
	if d.cfg.Relay == "debezium" {
		return d.phase("Debezium", func() error {
			if err := pgwal.CreateSlot(ctx, walConfig(d.cfg)); err != nil && !errors.Is(err, pgwal.ErrSlotExists) {
				return slotError(d.cfg, err)
			}
			d.startPart(ctx, "Debezium", runWhileDev)
			return d.awaitRelay(ctx, realRelayTimeout, connectorReads)
		})
	}
	d.startPart(ctx, "relay", d.runRelay)
	return d.phase("relay", func() error { return d.awaitRelay(ctx, relayTimeout, d.relayReads) })
}

// freeSlot ends the reading of dev's own connector, which a dev that was killed has left running, and refuses a slot that somebody else reads: dev's relay
// would stand by, and its events be carried by who knows whom. A relay that was killed gets a moment.
func (d *dev) freeSlot(ctx context.Context) error {
	if err := d.phase("Debezium", func() error { return stopConnector(ctx, d.cfg) }); err != nil {
		return err
	}
	if _, err := pgwal.ReadSlot(ctx, walConfig(d.cfg)); errors.Is(err, pgwal.ErrNoSlot) {
		return nil // it will be made
	}
	err := awaitSlot(ctx, d.cfg, foundConnector{})
	var held *heldError
	if errors.As(err, &held) {
		return slotReader{held.slot.ActivePID, held.slot.ActiveName, true}.refuse(d.cfg.Slot)
	}
	return err
}

// slotReader is who has the slot; the zero value is nobody.
type slotReader struct {
	pid     int32  // of its server process
	name    string // that it gives itself
	streams bool   // a slot is in use, for another moment, while it is being made
}

// refuse says what to do about somebody else.
func (r slotReader) refuse(slot string) error {
	who, end := fmt.Sprintf("a session that calls itself %q", r.name), "end it (a connector: `walpost connector stop --connector NAME`)"
	if r.name == pgwal.ApplicationName {
		who, end = "a walpost relay that is not this dev's", "stop that `walpost relay`, or the dev that it belongs to"
	}
	return conflict("slot %s is read by %s, server process %d, and PostgreSQL lets only one read it: %s, then start dev again", slot, who, r.pid, end)
}

// relayReads tells from its own words whether it is dev's relay that reads the slot, and whether it waits for another.
func (d *dev) relayReads(slotReader) (ours, others bool) {
	state := d.ops.Health.State("relay")
	return state == relay.StateStreaming.String(), state == relay.StateStandby.String()
}

// connectorReads takes Debezium for dev's own: the slot was free when dev let it begin.
func connectorReads(r slotReader) (ours, others bool) {
	others = r.name == pgwal.ApplicationName
	return r.streams && !others, others
}

// awaitRelay waits until dev's own relay reads its slot. A relay does not make a slot behind events that it would skip, so no event may come before.
// Another reader is given the time in which one that is about to end has ended.
func (d *dev) awaitRelay(ctx context.Context, limit time.Duration, reads func(slotReader) (ours, others bool)) error {
	defer devstack.Slowly(d.talk, "waiting for the relay to read the log")()
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it does not read slot %s within %s", d.cfg.Slot, limit))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var other int32 // server process of the other reader; 0: there is none
	var since time.Time
	for {
		reader, err := d.readSlotReader(ctx)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("look for slot %s: %w", d.cfg.Slot, err)
		}
		switch ours, others := reads(reader); {
		case err != nil:
		case ours:
			return nil
		case !others:
			other = 0
		case reader.pid != other: // which may be ours in a moment
			other, since = reader.pid, time.Now()
		case other != 0 && time.Since(since) > slotRelease:
			return reader.refuse(d.cfg.Slot)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d *dev) readSlotReader(ctx context.Context) (r slotReader, err error) {
	err = d.sources.Pool.QueryRow(ctx, `
		select coalesce(s.active_pid, 0), coalesce(r.application_name, ''), coalesce(r.state in ('catchup', 'streaming'), false)
		from pg_replication_slots s left join pg_stat_replication r on r.pid = s.active_pid
		where s.slot_name = $1`, d.cfg.Slot).Scan(&r.pid, &r.name, &r.streams)
	if errors.Is(err, pgx.ErrNoRows) {
		return slotReader{}, nil
	}
	return r, err
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
