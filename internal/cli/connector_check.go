package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// wantedConnector is a connector that the settings and the table describe.
type wantedConnector struct {
	config   map[string]string
	problems []error  // what the database lacks for it; each has its exit code
	warnings []string // what Debezium will do otherwise than walpost's relay
}

// describeConnector looks at the table, of which Debezium must be told more than the settings say. A database that does not answer is a problem
// among others: the configuration is there all the same.
func describeConnector(ctx context.Context, cfg config.Config) (w wantedConnector, err error) {
	c, err := connectorConfig(cfg)
	if err != nil {
		return w, err
	}
	if w.config, err = c.Connector(); err != nil {
		return w, misuse(err)
	}
	outbox, err := pgwal.ReadOutbox(ctx, walConfig(cfg))
	if err != nil {
		w.problems = append(w.problems, slotError(cfg, err))
		return w, nil
	}
	if name := outbox.Schema + "." + outbox.Table; name != c.Table {
		w.problems = append(w.problems, misused("table %s is %s to PostgreSQL, and Debezium goes by that: say --table %s", cfg.Table, name, name))
	}
	encoder, err := c.Mapping.Resolve(outbox.Columns)
	if err != nil {
		w.problems = append(w.problems, &exitError{relay.ColumnMissing.ExitCode(), fmt.Errorf("table %s: %w", c.Table, err)})
		return w, nil
	}
	if payload, _ := outbox.Column(c.Mapping.WithDefaults().Payload); payload.TypeOID == byteaOID && !c.Raw {
		c.BinaryPayload = true
		w.config, err = c.Connector()
	}
	for _, column := range encoder.Columns() {
		if !c.Raw && slices.Contains(outbox.Defaulted, column.Name) {
			w.warnings = append(w.warnings, fmt.Sprintf("column %s has a default: where it is NULL, Debezium publishes the default", column.Name))
		}
	}
	return w, err
}

const byteaOID = 17 // pg_type

// foundConnector is a connector as it is in Kafka Connect.
type foundConnector struct {
	exists bool
	slot   string
	status debezium.Status
}

func findConnector(ctx context.Context, client *debezium.Client, name string) (foundConnector, error) {
	have, err := client.Config(ctx, name)
	if errors.Is(err, debezium.ErrNotFound) {
		return foundConnector{}, nil
	}
	if err != nil {
		return foundConnector{}, err
	}
	status, err := client.Status(ctx, name)
	if err != nil {
		return foundConnector{}, err
	}
	return foundConnector{exists: true, slot: have["slot.name"], status: status}, nil
}

// state is one word for connector and tasks.
func (f foundConnector) state() debezium.State {
	switch {
	case !f.exists:
		return ""
	case len(f.status.Failed()) > 0:
		return debezium.Failed
	case f.status.Connector.State == debezium.Running && !f.status.Running():
		return debezium.Unassigned
	}
	return f.status.Connector.State
}

// holds reports whether the connector itself is who streams from the slot; a paused one does. Kafka Connect calls a task RUNNING while it waits for
// a slot that walpost's relay holds, so the name of the session counts as well.
func (f foundConnector) holds(s pgwal.SlotStatus) bool {
	return f.exists && f.slot == s.Name && f.status.Connector.State != debezium.Stopped && len(f.status.Failed()) == 0 && s.ActiveName != pgwal.ApplicationName
}

// checkSlot is what stands against reading from the slot.
func checkSlot(ctx context.Context, cfg config.Config, found foundConnector) error {
	slot, err := pgwal.ReadSlot(ctx, walConfig(cfg))
	if err == nil {
		err = slot.Check()
	}
	if err != nil {
		return slotError(cfg, err)
	}
	if !slot.Active || found.holds(slot) {
		return nil
	}
	return &exitError{exitConflict, &heldError{slot}}
}

// heldError is a conflict that may end by itself.
type heldError struct{ slot pgwal.SlotStatus }

func (e *heldError) Error() string {
	who := fmt.Sprintf("server process %d, which calls itself %q", e.slot.ActivePID, e.slot.ActiveName)
	next := "stop that reader first, or choose another slot with --slot"
	if e.slot.ActiveName == pgwal.ApplicationName {
		who, next = "walpost's relay", "stop the relay first: what it has published is not published again"
	}
	return fmt.Sprintf("slot %s is in use by %s: %s", e.slot.Name, who, next)
}

// slotRelease is how long a slot may take to be free after its reader has ended.
const slotRelease = 5 * time.Second

// awaitSlot is checkSlot with some patience for a reader that is about to leave.
func awaitSlot(ctx context.Context, cfg config.Config, found foundConnector) error {
	limit := time.Now().Add(slotRelease)
	ticker := time.NewTicker(slotRelease / 20)
	defer ticker.Stop()
	for {
		err := checkSlot(ctx, cfg, found)
		var held *heldError
		if !errors.As(err, &held) || time.Now().After(limit) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// placeConnector sees to it that the connector will go on where its slot stands. One that is not there is made for that, and begins nothing: only of a
// connector that exists does Kafka Connect say which position it remembers, an earlier one's of the same name as well. What is worth saying comes in a note.
func placeConnector(ctx context.Context, client *debezium.Client, cfg config.Config, found foundConnector, want map[string]string) (note string, err error) {
	if found.exists {
		return adopt(ctx, client, cfg, found)
	}
	status, err := client.Create(ctx, want, cfg.Wait)
	if errors.Is(err, debezium.ErrOutdated) {
		return fmt.Sprintf("%v: what Kafka Connect may remember of an earlier connector is not compared with slot %s", err, cfg.Slot), nil
	}
	if err != nil {
		return "", err
	}
	return adopt(ctx, client, cfg, foundConnector{exists: true, slot: cfg.Slot, status: status})
}

// adopt lets a stopped connector go on where another reader has left its slot, and says so in a note. With another slot than before, the position says
// nothing about what was published through that. One that has only been made had no slot before: it goes by the one that it is given.
func adopt(ctx context.Context, client *debezium.Client, cfg config.Config, found foundConnector) (note string, err error) {
	while := "stopped"
	switch {
	case found.status.Unfinished:
		while = "gone"
	case found.status.Connector.State != debezium.Stopped, found.slot != cfg.Slot:
		return "", nil
	}
	slot, err := pgwal.ReadSlot(ctx, walConfig(cfg))
	if err != nil {
		return "", slotError(cfg, err)
	}
	adopted, err := client.Adopt(ctx, found.status.Name, slot.Confirmed)
	if !adopted || err != nil {
		return "", err
	}
	return fmt.Sprintf("slot %s has been read by another up to %s, or made there, while the connector was %s: it goes on from there",
		slot.Name, slot.Confirmed, while), nil
}
