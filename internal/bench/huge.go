package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// hugeStall takes the place of stallLimit for one transaction: the first event comes when PostgreSQL has read all of it.
const hugeStall = 5 * time.Minute

// validateHuge says what is wrong with what is asked of the huge transaction.
func (c RelayConfig) validateHuge() error {
	var errs []error
	if c.Huge != 0 && c.Huge < 1000 {
		errs = append(errs, fmt.Errorf("%d rows in one transaction: want 0 for none, or at least 1000", c.Huge))
	}
	for _, name := range c.HugeAgainst {
		if onlyReads(name) || !slices.Contains(c.Against, name) {
			errs = append(errs, fmt.Errorf("contestant %q of the huge transaction: want one that carries events and is measured: %s", name,
				strings.Join(slices.DeleteFunc(slices.Clone(c.Against), onlyReads), ", ")))
		}
	}
	return errors.Join(errs...)
}

// huge has each of walpost's deliveries, and whoever else was named, carry one transaction, once: it is memory that this is about, and that varies little.
func (b *relayBench) huge(ctx context.Context) error {
	if b.cfg.Huge == 0 {
		return nil
	}
	log, err := b.world.writeBacklog(ctx, "bench_huge", "one transaction of %s rows", fillAtOnce, b.cfg.Huge)
	if err != nil {
		return err
	}
	log.stall = hugeStall
	for _, c := range b.list {
		about := c.about()
		if !about.ours() && !slices.Contains(b.cfg.HugeAgainst, about.Name) {
			continue
		}
		d, err := b.world.drain(ctx, c, log, b.lane())
		if err == nil {
			err = d.Count.fault()
		}
		if err != nil {
			return fmt.Errorf("one transaction of %s rows, %s: %w", count(b.cfg.Huge), about.Label, err)
		}
		d.Round = 1
		b.say("one transaction    %-26s %9s events/s, %s MiB, %d doubled", about.Label, count(int(d.Rate)), digits(peak(d.Use, ProcessRelay)), d.Count.Doubled)
		b.results.Huge = append(b.results.Huge, d)
	}
	return b.world.dropSlot(ctx, log.slot)
}

// hugeEstimate is about how long it takes on two cores.
func (c RelayConfig) hugeEstimate() time.Duration {
	if c.Huge == 0 {
		return 0
	}
	rows := time.Duration(c.Huge)
	return rows*20*time.Microsecond + time.Duration(len(c.Deliveries)+len(c.HugeAgainst))*(8*time.Second+rows*30*time.Microsecond)
}

// HugeTable has a line for each contestant that carried the huge transaction; the first row is the heading.
func HugeTable(r RelayResults) [][]string {
	rows := [][]string{{"contestant", "relay MiB", "events/s", "start to first event", "start to last event", "relay µs an event", "lost", "doubled"}}
	for _, c := range ordered(r.Contestants) {
		for _, d := range r.Huge {
			if d.Contestant != c.Name {
				continue
			}
			all := d.Start + d.Seconds
			if d.Rows == d.Count.Written {
				all = d.Seconds // timed from the start
			}
			rows = append(rows, []string{
				c.Label, digits(peak(d.Use, ProcessRelay)), count(int(d.Rate)), seconds(d.Start) + " s", seconds(all) + " s",
				digits(cpu(d.Use, ProcessRelay) * 1e6 / float64(max(d.Rows, 1))), count(d.Count.Lost), count(d.Count.Doubled),
			})
		}
	}
	return rows
}

// huge writes the section about the huge transaction, when there was one.
func (p *page) huge(r RelayResults) {
	table := HugeTable(r)
	if len(table) == 1 {
		return
	}
	p.add("## One transaction of %s rows\n", count(r.HugeRows))
	p.table(table)
	p.add("PostgreSQL hands a transaction on when it is committed and wholly read; what does not fit into logical_decoding_work_mem it writes to its own disk meanwhile. " +
		"That is the time before the first event, the same for all.\n")
}

// hugeMeasures compares what both did with the huge transaction, if both carried it.
func hugeMeasures(our, their Summary) []measure {
	o, t := our.Huge, their.Huge
	if o.Rows == 0 || t.Rows == 0 {
		return nil
	}
	return []measure{
		{"memory with a huge transaction", peak(o.Use, ProcessRelay), peak(t.Use, ProcessRelay), false, "MiB", digits},
		{"carrying a huge transaction", o.Rate, t.Rate, true, "events/s", rate},
	}
}
