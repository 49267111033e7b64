package outbox

import (
	"encoding/json"
	"errors"
	"fmt"
)

// The limits of an event, in bytes. Those of the table outbox_events are the same, so that a writer in any language
// fails and never the relay: all of them together stay below 1 MiB, Kafka's default limit of a message.
const (
	MaxPayloadBytes       = 900 << 10 // of Payload, as given
	MaxHeadersBytes       = 16 << 10  // of Headers, written as PostgreSQL writes a jsonb: {"key": "value", "other": "value"}
	MaxAggregateIDBytes   = 1 << 10   // of AggregateID
	MaxAggregateTypeBytes = 255       // of AggregateType
	MaxTypeBytes          = 249       // of Type: Kafka's limit of a topic's name
	MaxTraceParentBytes   = 255       // of TraceParent; the form now in use has 55
)

// MaxAppendBytes bounds the events of one call of Append together: PostgreSQL takes no statement of 1 GiB, and
// quoting may double an event.
const MaxAppendBytes = 256 << 20

// Event is one fact to be carried from the transaction that states it to its consumers.
type Event struct {
	// ID is the event's identity for duplicate detection. Set it to know it before the commit; ids made by NewID keep
	// the table's day partitions in use. Defaults to a new UUIDv7.
	ID EventID
	// AggregateType says what kind of thing the event is about: "user", "order". Required.
	AggregateType string
	// AggregateID says which thing the event is about. It is the key of the Kafka record: events of one aggregate
	// stay in order if their transactions do, for example because each locks the aggregate's row. Required.
	AggregateID string
	// Type says what happened, and names the topic unless the relay is configured otherwise: letters, digits, '.',
	// '_' and '-', not "." or "..". Required.
	Type string
	// Payload is the value of the Kafka record, a JSON text in UTF-8 that arrives byte for byte. Defaults to nil: SQL
	// NULL and a tombstone in Kafka, which is not the same as the JSON text null.
	Payload json.RawMessage
	// Headers travel beside the payload. Defaults to nil: SQL NULL.
	Headers map[string]string
	// TraceParent is the W3C trace context of the event's creation. Defaults to what Appender.TraceParent returns,
	// else SQL NULL.
	TraceParent string
}

// ErrInvalidEvent is what errors.Is finds in every refusal of an event. The particulars are in EventError.
var ErrInvalidEvent = errors.New("invalid event")

// EventError says which event of a call was refused, and why. Nothing was sent to the database: the transaction is as
// good as before.
type EventError struct {
	Index  int    // of the event among the arguments, from 0
	Field  string // of Event: "AggregateID", "Payload", …
	Reason string // completes the sentence that begins with Field; it never quotes the payload
}

// Error names event, field and reason.
func (e *EventError) Error() string {
	return fmt.Sprintf("%v %d: %s %s", ErrInvalidEvent, e.Index, e.Field, e.Reason)
}

// Unwrap returns ErrInvalidEvent.
func (e *EventError) Unwrap() error { return ErrInvalidEvent }
