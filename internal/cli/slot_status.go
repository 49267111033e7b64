package cli

import (
	"context"
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
Exit code 0: the slot can be read from, 3: it is lost, 4: there is none.`,
		Example: "  walpost slot status --output json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := readSlotState(cmd.Context(), p.cfg)
			if err != nil {
				return err
			}
			for _, line := range s.says() {
				p.say("%s", line)
			}
			if err := p.printSlotState(s); err != nil {
				return err
			}
			if s.lost() {
				return unhealthy("slot %s is lost: %s", s.slot.Name, s.next())
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
	if s.slot, err = readSlot(ctx, cfg); err != nil {
		return s, err
	}
	// The slot was read before: a relay moves the watermark first. To say who the server is needs the right to replicate, which looking at the slot does not.
	if s.origin, _, s.unseen = pgwal.ReadOrigin(ctx, walConfig(cfg)); s.unseen == nil {
		s.kept, s.unseen = keptWatermark(ctx, cfg, s.origin)
	}
	return s, nil
}

func (s slotState) lost() bool { return s.slot.WALStatus == "lost" || s.slot.InvalidationReason != "" }

// says explains the state in plain words.
func (s slotState) says() []string {
	lines := []string{s.slot.Explain(), s.watermarkSays()}
	if s.lost() { // the command ends with what to do
		return lines
	}
	return append(lines, "Next: "+s.next()+".")
}

// halts reports that a relay which delivers exactly once cannot begin at what Kafka keeps.
func (s slotState) halts() bool {
	if s.unseen != nil || s.slot.Check() != nil {
		return false
	}
	w := s.watermark
	return s.garbled != nil || !s.known && !s.origin.Fresh || s.known && (w.Timeline != s.origin.Timeline || w.End < s.slot.Confirmed)
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
	text := fmt.Sprintf("Its watermark in Kafka says that everything up to %s is published", w.End)
	if w.EventID != "" {
		text += fmt.Sprintf(", the latest event being %s at %s", w.EventID, w.Position)
	}
	switch {
	case w.Timeline != s.origin.Timeline:
		text += fmt.Sprintf("; but that is of timeline %d, and the database is on timeline %d: a relay that delivers exactly once halts", w.Timeline, s.origin.Timeline)
	case w.End < stands:
		text += fmt.Sprintf("; but the slot stands %d bytes beyond that: another relay has read it, or somebody moved it, and a relay that delivers exactly once halts", stands-w.End)
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
