package pgwal

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/walpost/walpost/relay"
)

// Explain says in plain words what state the slot is in and what follows.
func (s SlotStatus) Explain() string {
	var b strings.Builder
	b.WriteString(s.holder())
	fmt.Fprintf(&b, " Everything up to %s is confirmed, %s of log lie behind it; %s are kept for the slot, from %s on.",
		s.Confirmed, size(s.UnconfirmedBytes()), size(s.RetainedBytes()), s.Restart)
	if s.pinned() {
		b.WriteString(" So much is kept although it is confirmed because a transaction that was open then is read from its beginning: look for long ones in pg_stat_activity and pg_prepared_xacts.")
	}
	b.WriteString(s.danger())
	return b.String()
}

// holder says who has the slot.
func (s SlotStatus) holder() string {
	switch {
	case !s.ThisDatabase:
		return fmt.Sprintf("Slot %s belongs to database %s: no relay of this database can use it.", s.Name, s.Database)
	case s.lost():
		return fmt.Sprintf("Slot %s is lost (%s). Events committed after %s may never have been published.", s.Name, s.lostReason(), s.Confirmed)
	case s.Active && s.ActiveName != "":
		return fmt.Sprintf("Slot %s is in use by server process %d, application %s.", s.Name, s.ActivePID, s.ActiveName)
	case s.Active:
		return fmt.Sprintf("Slot %s is in use by server process %d.", s.Name, s.ActivePID)
	}
	since := ""
	if s.InactiveSince != nil {
		since = fmt.Sprintf(" since %s (%s)", s.InactiveSince.UTC().Format(time.RFC3339), time.Since(*s.InactiveSince).Round(time.Second))
	}
	return fmt.Sprintf("Slot %s is not in use%s: no relay is running, and the server keeps its log until one does.", s.Name, since)
}

// pinnedBytes is far more than the server keeps behind what is confirmed without a reason.
const pinnedBytes = 64 << 20

// pinned reports that the server keeps much log that is confirmed.
func (s SlotStatus) pinned() bool {
	return !s.lost() && s.RetainedBytes()-s.UnconfirmedBytes() > pinnedBytes
}

// danger says how far the slot is from being lost. See https://www.postgresql.org/docs/current/view-pg-replication-slots.html.
func (s SlotStatus) danger() string {
	meaning := map[string]string{
		"reserved":   "what is kept is within max_wal_size",
		"extended":   "more than max_wal_size is kept",
		"unreserved": "it is about to be lost, the server may remove what it needs at the next checkpoint",
	}[s.WALStatus]
	if meaning == "" || s.lost() {
		return ""
	}
	text := fmt.Sprintf(" Its wal_status is %s: %s.", s.WALStatus, meaning)
	switch {
	case s.WALStatus == "unreserved":
		return text
	case s.SafeBytes == nil:
		return text + " No max_slot_wal_keep_size limits it."
	}
	return text + fmt.Sprintf(" It is lost after another %s of log.", size(*s.SafeBytes))
}

// Next says what to do about the state that the slot is in.
func (s SlotStatus) Next() string {
	var halt *relay.HaltError
	switch {
	case errors.As(s.Check(), &halt):
		return halt.Hint
	case s.WALStatus == "unreserved" && s.Active:
		return "raise max_slot_wal_keep_size and reload the server, then find out why the relay does not keep up: walpost_relay_state and walpost_relay_lag_seconds"
	case s.WALStatus == "unreserved":
		return "start the relay at once, or raise max_slot_wal_keep_size and reload the server"
	case s.pinned():
		return "end the transactions that are open for long: the relay cannot make the server forget its log before"
	case s.Active && s.ActiveName == ApplicationName:
		return "nothing; another relay would stand by"
	case s.Active:
		return "nothing; a relay would stand by until that application lets go of the slot"
	}
	return "start the relay; if nobody is to read the slot any more, " + relay.Origin{Slot: s.Name}.SlotCommand("drop") + ": the log that it keeps grows"
}

// size is a number of bytes as people read it too.
func size(n int64) string {
	const unit = 1 << 10
	if n < unit*unit {
		return fmt.Sprintf("%d bytes", n)
	}
	value, prefix := float64(n)/(unit*unit), 0
	for value >= unit && prefix < len("MGTP")-1 {
		value, prefix = value/unit, prefix+1
	}
	return fmt.Sprintf("%d bytes (%.1f %ciB)", n, value, "MGTP"[prefix])
}
