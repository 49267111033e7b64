package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
	"github.com/walpost/walpost/relay/pgwal"
)

func newSlotAdoptCommand(p *program) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Let exactly once begin where the slot stands",
		Long: `Let a relay that delivers exactly once begin where the slot stands, whatever its watermark in Kafka says. That is the way there, once, for a slot that
Debezium or a relay with at-least-once has used, and the way on after a halt that names this command. What the slot holds is published: events that
were published and not confirmed come again. What lies before it never is. It says how much both are and asks; --yes answers, --dry-run only says
it. Stop the relay and the connector first.
Exit code 4: there is no slot, 5: it is in use.`,
		Example: `  walpost slot adopt --slot orders --kafka-brokers kafka:9092 --dry-run
  walpost slot adopt --slot orders --kafka-brokers kafka:9092`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := planAdoption(cmd.Context(), p.cfg)
			if err != nil {
				return err
			}
			for _, line := range a.says() {
				p.say("%s", line)
			}
			if !dryRun {
				if err := p.adopt(cmd.Context(), &a); err != nil {
					return err
				}
			}
			return p.printAdoption(a)
		},
	}
	config.Flags(cmd.Flags(), "database-url", "kafka-brokers", "slot", "publication", "table")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing")
	return cmd
}

// maxPeekBytes bounds the log that is looked through to count events.
const maxPeekBytes = 64 << 20

// adoption is what slot adopt does, or would do.
type adoption struct {
	kept
	origin  relay.Origin
	slot    pgwal.SlotStatus
	held    []relay.Position
	counted bool // held is all that the slot holds
	done    bool
}

// planAdoption looks at both ends, when nobody reads the slot any more. It changes nothing.
func planAdoption(ctx context.Context, cfg config.Config) (a adoption, err error) {
	err = awaitSlot(ctx, cfg, foundConnector{})
	if held := new(heldError); errors.As(err, &held) {
		return a, conflict("slot %s is in use by server process %d, which calls itself %q: stop the relay or the connector first",
			held.slot.Name, held.slot.ActivePID, held.slot.ActiveName)
	}
	if err != nil {
		return a, err
	}
	if a.origin, a.slot, err = pgwal.ReadOrigin(ctx, walConfig(cfg)); err != nil {
		return a, slotError(cfg, err)
	}
	if a.kept, err = keptWatermark(ctx, cfg, a.origin); err != nil {
		return a, slotError(cfg, err)
	}
	if a.origin.Fresh || a.slot.UnconfirmedBytes() > maxPeekBytes { // reading from a slot makes it used
		return a, nil
	}
	a.held, err = pgwal.PeekSlot(ctx, walConfig(cfg))
	a.counted = err == nil // the numbers are a help, and no reason to fail
	return a, nil
}

// kept is what Kafka keeps of a slot.
type kept struct {
	watermark relay.Watermark // as it is now
	known     bool            // there is one
	garbled   error           // what is there instead
}

func keptWatermark(ctx context.Context, cfg config.Config, o relay.Origin) (k kept, err error) {
	sink, err := adoptingSink(ctx, cfg)
	if err != nil {
		return k, err
	}
	k.watermark, k.known, err = sink.Watermark(ctx, o)
	var halt *relay.HaltError
	if errors.Is(err, kafkasink.ErrGarbled) && errors.As(err, &halt) {
		k.garbled, err = halt.Err, nil
	}
	return k, err
}

// adoptingSink is the sink of a relay that delivers exactly once, when a broker answers.
func adoptingSink(ctx context.Context, cfg config.Config) (*kafkasink.Sink, error) {
	admin, err := kafkaAdmin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	admin.Close()
	return kafkasink.New(kafkasink.Config{Brokers: cfg.KafkaBrokers, Delivery: relay.ExactlyOnce, ConnectTimeout: connectTimeout})
}

// adopt asks first.
func (p *program) adopt(ctx context.Context, a *adoption) error {
	if err := p.confirm(fmt.Sprintf("the watermark of slot %s will be set to %s", a.slot.Name, a.origin.Confirmed)); err != nil {
		return err
	}
	if err := a.carryOut(ctx, p.cfg); err != nil {
		return err
	}
	p.say("slot %s: exactly once begins at %s", a.slot.Name, a.origin.Confirmed)
	return nil
}

// carryOut does it with the slot in its hands: what a relay published meanwhile would be published again.
func (a *adoption) carryOut(ctx context.Context, cfg config.Config) error {
	sink, err := adoptingSink(ctx, cfg)
	if err != nil {
		return err
	}
	err = pgwal.HoldSlot(ctx, walConfig(cfg), func(o relay.Origin) error {
		if o.SystemID != a.origin.SystemID || o.Timeline != a.origin.Timeline || o.Confirmed != a.origin.Confirmed {
			return conflict("slot %s has moved from %s to %s in the meantime: look again with `%s`", o.Slot, a.origin.Confirmed, o.Confirmed, o.SlotCommand("adopt"))
		}
		return sink.Adopt(ctx, o, relay.Watermark{Timeline: o.Timeline, End: o.Confirmed})
	})
	a.done = err == nil
	return slotError(cfg, err)
}

// says explains in plain words what is skipped and what repeated.
func (a adoption) says() []string {
	lines := []string{a.slot.Explain()}
	w, stands := a.watermark, a.origin.Confirmed
	switch {
	case a.garbled != nil:
		lines = append(lines, fmt.Sprintf("Its watermark in Kafka cannot be read and will be replaced: %v.", a.garbled))
	case !a.known && a.origin.Fresh:
		lines = append(lines, "Kafka has no watermark for it, and nothing was read through it yet: exactly once begins here by itself.")
	case !a.known:
		lines = append(lines, "Kafka has no watermark for it. What the slot holds and another relay has published already comes again.")
	case w.Timeline != a.origin.Timeline:
		lines = append(lines, a.saysTimeline())
	case w.End == stands:
		lines = append(lines, "Its watermark stands there too. What the relay knew of the ends of topics will be forgotten.")
	}
	if from, to := a.skipped(); from != to {
		lines = append(lines, fmt.Sprintf("Skipped: from %s to %s, %d bytes of log. Find the rows of that stretch in the outbox table: those that are not on the topic will not come.", from, to, to-from))
	}
	if from, to := a.repeated(); from != to {
		lines = append(lines, fmt.Sprintf("Repeated: from %s to %s, %d bytes of log%s.", from, to, to-from, counted(a.repeatedEvents(), ", events: ")))
	}
	return append(lines, fmt.Sprintf("Published next: what the slot holds behind %s, %d bytes of log%s.", stands, a.slot.UnconfirmedBytes(), counted(a.heldEvents(), ", events: ")))
}

// saysTimeline explains a watermark of another timeline.
func (a adoption) saysTimeline() string {
	says := fmt.Sprintf("Its watermark stands at %s of timeline %d", a.watermark.End, a.watermark.Timeline)
	var halt *relay.HaltError
	if _, err := a.origin.CarryOver(a.watermark); errors.As(err, &halt) {
		return fmt.Sprintf("%s: %v.", says, halt.Err)
	}
	return fmt.Sprintf("%s, and the database is on timeline %d, which has all that was published: a relay that delivers exactly once goes on by itself.", says, a.origin.Timeline)
}

func counted(n *int, before string) string {
	if n == nil {
		return ""
	}
	return before + strconv.Itoa(*n)
}

// skipped is the stretch of log of which nothing will be published any more, unless it has been.
func (a adoption) skipped() (from, to relay.LSN) {
	if !a.known {
		return 0, 0
	}
	return min(a.watermark.End, a.origin.Confirmed), a.origin.Confirmed
}

// repeated is the stretch that was published and will be again.
func (a adoption) repeated() (from, to relay.LSN) {
	if !a.known {
		return 0, 0
	}
	return a.origin.Confirmed, max(a.watermark.End, a.watermark.Position.Commit, a.origin.Confirmed)
}

func (a adoption) heldEvents() *int {
	if !a.counted {
		return nil
	}
	n := len(a.held)
	return &n
}

func (a adoption) repeatedEvents() *int {
	if !a.counted {
		return nil
	}
	n := 0
	for _, at := range a.held {
		if at.Compare(a.watermark.Position) <= 0 {
			n++
		}
	}
	return &n
}

// stretch is a part of the log in the result.
type stretch struct {
	From   string `json:"from_lsn"`
	To     string `json:"to_lsn"`
	Bytes  int64  `json:"bytes"`
	Events *int   `json:"events"` // null: not known
}

func stretchOf(from, to relay.LSN, events *int) *stretch {
	if from == to {
		return nil
	}
	return &stretch{from.String(), to.String(), int64(to - from), events}
}

// adoptionRow is the machine-readable result.
type adoptionRow struct {
	Slot         string   `json:"slot"`
	SystemID     string   `json:"system_id"`
	Timeline     int32    `json:"timeline"`
	ConfirmedLSN string   `json:"confirmed_lsn"`
	WatermarkLSN *string  `json:"watermark_lsn"` // before; null: there was none
	Skipped      *stretch `json:"skipped"`       // null: nothing
	Repeated     *stretch `json:"repeated"`      // null: nothing, as far as Kafka knows
	HeldBytes    int64    `json:"held_bytes"`
	HeldEvents   *int     `json:"held_events"` // null: not known
	Adopted      bool     `json:"adopted"`
}

func (p *program) printAdoption(a adoption) error {
	row := adoptionRow{
		Slot: a.slot.Name, SystemID: a.origin.SystemID, Timeline: a.origin.Timeline, ConfirmedLSN: a.origin.Confirmed.String(),
		HeldBytes: a.slot.UnconfirmedBytes(), HeldEvents: a.heldEvents(), Adopted: a.done,
	}
	before := "none"
	if a.known {
		before = a.watermark.End.String()
		row.WatermarkLSN = &before
	}
	from, to := a.skipped()
	row.Skipped = stretchOf(from, to, nil)
	skippedBytes := to - from
	from, to = a.repeated()
	row.Repeated = stretchOf(from, to, a.repeatedEvents())
	return p.print(row, [][]string{
		{"SLOT", "CONFIRMED", "WATERMARK BEFORE", "SKIPPED BYTES", "REPEATED BYTES", "HELD BYTES", "HELD EVENTS", "ADOPTED"},
		{
			row.Slot, row.ConfirmedLSN, before, fmt.Sprint(uint64(skippedBytes)), fmt.Sprint(uint64(to - from)), strconv.FormatInt(row.HeldBytes, 10),
			counted(row.HeldEvents, ""), strconv.FormatBool(row.Adopted),
		},
	})
}
