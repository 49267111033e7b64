package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/relay"
)

// runRelay is the relay of a development system: it begins where its slot stands when nobody can tell what was published before, as Debezium was in use,
// or at least once, as by earlier versions, or somebody deleted a topic. A halt would only be in the way, and an embedded system that has halted has no
// servers on which `slot adopt` could be run.
func (d *dev) runRelay(ctx context.Context, cfg config.Config, o *ops.Ops) error {
	return runMended(ctx, cfg, o, func(ctx context.Context, err error) error {
		var halt *relay.HaltError
		if !errors.As(err, &halt) || !adoptable(halt.Cause) {
			return err
		}
		a, adoptErr := planAdoption(ctx, cfg)
		if adoptErr == nil {
			adoptErr = a.carryOut(ctx, cfg)
		}
		if adoptErr != nil {
			d.program.log.Warn("dev could not adopt the slot", "slot", cfg.Slot, "error", adoptErr)
			return err
		}
		d.program.say("slot %s: %s", a.slot.Name, a.begins(halt))
		return nil
	})
}

// adoptable reports whether `slot adopt` may be the way on.
func adoptable(c relay.Cause) bool {
	return c == relay.WatermarkUnusable || c == relay.SlotMoved || c == relay.SlotMissing || c == relay.TopicTruncated
}

// begins says in a line what the adoption means for who looks at the topics.
func (a adoption) begins(halt *relay.HaltError) string {
	why := halt.Err.Error()
	if halt.Cause == relay.WatermarkUnusable || halt.Cause == relay.SlotMoved {
		why = "Debezium or at least once has published through it"
	}
	twice := "the events that it holds may come twice"
	if n := a.heldEvents(); n != nil {
		twice = "up to " + plural(int64(*n), "event") + " may come twice"
		if *n == 0 {
			twice = "no event comes twice"
		}
	}
	return fmt.Sprintf("%s: exactly once begins anew at %s, %s", why, a.origin.Confirmed, twice)
}
