package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

func newSlotStatusCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say where the slot stands, and what to do",
		Long: `Say where the slot stands, who reads from it, how much log the server keeps for it, whether it is in danger, what Kafka keeps of it for a relay that
delivers exactly once, and what to do. Kafka need not be reachable for the rest.
Exit code 0: the slot can be read from, 3: it cannot, being lost or of another database or plugin, 4: there is none.`,
		Example: "  walpost slot status --output json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := readSlotState(cmd.Context(), p.cfg)
			if s.known && errors.Is(err, pgwal.ErrNoSlot) {
				return s.missing()
			}
			if err != nil {
				return slotError(p.cfg, err)
			}
			for _, line := range s.says() {
				p.say("%s", line)
			}
			if err := p.printSlotState(s); err != nil {
				return err
			}
			var halt *relay.HaltError
			if errors.As(s.slot.Check(), &halt) {
				return unhealthy("%w: %s", halt.Err, halt.Hint)
			}
			return nil
		},
	}
	config.Flags(cmd.Flags(), "database-url", "kafka-brokers", "slot", "publication", "table")
	return cmd
}

// slotState is all that is known of a slot.
type slotState struct {
	kept
	slot   pgwal.SlotStatus
	origin relay.Origin
	unseen error // why nothing is known of what Kafka keeps
}

func readSlotState(ctx context.Context, cfg config.Config) (s slotState, err error) {
	if s.slot, err = pgwal.ReadSlot(ctx, walConfig(cfg)); err != nil && !errors.Is(err, pgwal.ErrNoSlot) {
		return s, err
	}
	// The slot was read before: a relay moves the watermark first. To say who the server is needs the right to replicate, which looking at the slot does not.
	if s.origin, _, s.unseen = pgwal.ReadOrigin(ctx, walConfig(cfg)); s.unseen == nil || errors.Is(s.unseen, pgwal.ErrNoSlot) {
		s.kept, s.unseen = keptWatermark(ctx, cfg, s.origin)
	}
	return s, err
}

// missing is about a slot that is gone, while Kafka knows what was published through it.
func (s slotState) missing() error {
	o := s.origin
	return notFound("there is no slot %s, but there was one: its watermark in Kafka says that %s; run `%s`, `%s`, then append the rows behind that again that are not on the topic",
		o.Slot, publishedSays(s.watermark), o.SlotCommand("create --skip-existing"), o.SlotCommand("adopt"))
}

// publishedSays is what a watermark says.
func publishedSays(w relay.Watermark) string {
	text := fmt.Sprintf("everything up to %s is published", w.End)
	if w.EventID != "" {
		text += fmt.Sprintf(", the latest event being %s at %s", w.EventID, w.Position)
	}
	return text
}

// says explains the state in plain words.
func (s slotState) says() []string {
	lines := []string{s.slot.Explain(), s.watermarkSays()}
	if s.slot.Check() != nil { // the command ends with what to do
		return lines
	}
	return append(lines, "Next: "+s.next()+".")
}

// halts reports that a relay which delivers exactly once cannot begin at what Kafka keeps.
func (s slotState) halts() bool {
	if s.unseen != nil || s.slot.Check() != nil {
		return false
	}
	w, err := s.origin.CarryOver(s.watermark)
	return s.garbled != nil || !s.known && !s.origin.Fresh || s.known && (err != nil || w.End < s.slot.Confirmed)
}

// watermarkSays explains what Kafka keeps.
func (s slotState) watermarkSays() string {
	w, stands := s.watermark, s.slot.Confirmed
	if s.unseen != nil {
		return fmt.Sprintf("What Kafka keeps of it for a relay that delivers exactly once is not known: %v.", s.unseen)
	}
	if s.garbled != nil {
		return fmt.Sprintf("Its watermark in Kafka cannot be read: %v.", s.garbled)
	}
	if !s.known && s.origin.Fresh {
		return "Kafka has no watermark for it, and nothing was read through it yet: a relay that delivers exactly once begins here by itself."
	}
	if !s.known {
		return "Kafka has no watermark for it: it was read at least once or by Debezium, and a relay that delivers exactly once halts."
	}
	text := "Its watermark in Kafka says that " + publishedSays(w)
	now, err := s.origin.CarryOver(w)
	var halt *relay.HaltError
	switch {
	case errors.As(err, &halt):
		text += fmt.Sprintf("; but %v: a relay that delivers exactly once halts", halt.Err)
	case w.Timeline != s.origin.Timeline && now.End >= stands:
		text += fmt.Sprintf("; that is of timeline %d, and timeline %d of the database has all of it: a relay that delivers exactly once goes on by itself", w.Timeline, s.origin.Timeline)
	case now.End < stands:
		text += fmt.Sprintf("; but the slot stands %d bytes beyond that: another relay has read it, or somebody moved it, and a relay that delivers exactly once halts", stands-now.End)
	case w.End > stands:
		text += fmt.Sprintf(", %d bytes beyond the slot: what lies between is not published again", w.End-stands)
	}
	return text + "."
}

func (s slotState) next() string {
	if s.halts() {
		return s.origin.SlotCommand("adopt --dry-run") + ", which --delivery at-least-once does not need; then " + s.slot.Next()
	}
	return s.slot.Next()
}

// slotStateRow is the machine-readable state.
type slotStateRow struct {
	slotRow
	Watermark      *watermarkRow `json:"watermark"`                 // null: none, or not known
	WatermarkError string        `json:"watermark_error,omitempty"` // why it is not known, or cannot be read
	Next           string        `json:"next"`
}

type watermarkRow struct {
	Timeline  int32  `json:"timeline"`
	EndLSN    string `json:"end_lsn"`
	CommitLSN string `json:"commit_lsn"` // with the index: the position of the latest event
	Index     uint32 `json:"index"`
	EventID   string `json:"event_id"` // empty: no event was published yet
}

func (p *program) printSlotState(s slotState) error {
	row := slotStateRow{slotRow: slotRowOf(s.slot), Next: s.next()}
	mark := "unknown"
	switch w := s.watermark; {
	case s.unseen != nil:
		row.WatermarkError = s.unseen.Error()
	case s.garbled != nil:
		row.WatermarkError = s.garbled.Error()
	case s.known:
		mark = w.End.String()
		row.Watermark = &watermarkRow{w.Timeline, w.End.String(), w.Position.Commit.String(), w.Position.Index, w.EventID}
	default:
		mark = "none"
	}
	table := row.table()
	return p.print(row, [][]string{append(table[0], "WATERMARK"), append(table[1], mark)})
}
