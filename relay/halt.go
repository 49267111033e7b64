package relay

import (
	"errors"
	"fmt"
	"strings"
)

// ErrStandby is returned by Source.Open when another relay holds the slot. The engine waits for it and takes over.
var ErrStandby = errors.New("the slot is held by another relay")

// Cause is why a relay halts: something that no retry mends and that must not be passed over in silence.
type Cause int

// The causes. Each has its own exit code.
const (
	SlotMissing        Cause = iota + 1 // no usable replication slot of that name in this database
	SlotLost                            // the server has removed write-ahead log that the slot still needed
	SlotMoved                           // the slot stands beyond what this relay confirmed: somebody else moved or recreated it
	PublicationMissing                  // no such publication, or it does not publish inserts
	TableUnpublished                    // no such table, or the publication does not hold it
	IdentityChanged                     // another database cluster, another timeline, or another event at a known position
	ColumnMissing                       // a column that the mapping needs is gone or has another type
	EventTooLarge                       // the topic does not take an event of that size
	TopicMissing                        // a topic does not exist or may not be written to
	WatermarkUnusable                   // no watermark where one must be, or a topic that cannot keep one
	TopicTruncated                      // a topic ends before what was written to it
	Unpublishable                       // a row that can never become a record
)

// causes is the one table of names and exit codes, by Cause.
var causes = [...]struct {
	name string
	exit int
}{
	SlotMissing:        {"slot_missing", 10},
	SlotLost:           {"slot_lost", 11},
	SlotMoved:          {"slot_moved", 12},
	PublicationMissing: {"publication_missing", 13},
	TableUnpublished:   {"table_unpublished", 14},
	IdentityChanged:    {"identity_changed", 15},
	ColumnMissing:      {"column_missing", 16},
	EventTooLarge:      {"event_too_large", 17},
	TopicMissing:       {"topic_missing", 18},
	Unpublishable:      {"unpublishable", 19},
	WatermarkUnusable:  {"watermark_unusable", 20},
	TopicTruncated:     {"topic_truncated", 21},
}

// String is the cause's name in logs and metrics, such as slot_missing.
func (c Cause) String() string {
	if c < SlotMissing || c > Unpublishable {
		return fmt.Sprintf("Cause(%d)", int(c))
	}
	return causes[c].name
}

// ExitCode is the exit code of a process that ends with this cause: 10 to 21, or 1 for a value that is no cause.
func (c Cause) ExitCode() int {
	if c < SlotMissing || c > Unpublishable {
		return 1
	}
	return causes[c].exit
}

// SlotCommand is a command about the slot, as it is typed.
func (o Origin) SlotCommand(verb string) string {
	const usual = "walpost" // what the commands take when no slot is named
	if o.Slot == usual || o.Slot == "" {
		return "walpost slot " + verb
	}
	return "walpost slot " + verb + " --slot " + o.Slot
}

// HaltError ends Relay.Run: nothing that lies behind the cause in the log is published. What was received before a cause that time finds, such as a publication
// that is gone, still is.
type HaltError struct {
	Cause    Cause
	From, To LSN    // the stretch of log in question; zero: not known, or no end
	Err      error  // what was found
	Hint     string // what to run next
}

// Error says the cause, what was found, the stretch of log and what to do.
func (e *HaltError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "relay halted (%s): %v", e.Cause, e.Err)
	switch {
	case e.From != 0 && e.To > e.From:
		fmt.Fprintf(&b, " (LSN %s to %s)", e.From, e.To)
	case e.From != 0:
		fmt.Fprintf(&b, " (LSN %s)", e.From)
	case e.To != 0:
		fmt.Fprintf(&b, " (LSN up to %s)", e.To)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, "; next: %s", e.Hint)
	}
	return b.String()
}

// Unwrap is what was found.
func (e *HaltError) Unwrap() error { return e.Err }
