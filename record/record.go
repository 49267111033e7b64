// Package record is the wire contract: how a row of the outbox table becomes a Kafka record, and how a consumer reads it back.
//
// It is the only place that knows header names, their order and which column goes where. It talks to neither PostgreSQL nor Kafka, and looks
// into no payload; the only JSON that it parses is that of a row which a connector published whole.
//
// The invariant: Decode(Encode(row)) gives the row's values back byte for byte, and two relays that use one Mapping produce equal records.
package record

// Header names of the contract.
const (
	HeaderID            = "id"             // the event id as text, on every record, always first
	HeaderEventType     = "event_type"     // the event's type
	HeaderAggregateType = "aggregate_type" // the kind of thing the event is about
	HeaderTraceParent   = "traceparent"    // W3C trace context of the transaction that appended the event
	HeaderHeaders       = "headers"        // the writer's own headers, a JSON object
)

// Header is one record header. A nil Value is Kafka's null, which is not the same as an empty one.
type Header struct {
	Key   string
	Value []byte
}

// Record is what goes to Kafka. Its slices point into the row it was made from and live as long as that row's bytes do.
type Record struct {
	Topic   string
	Key     []byte // nil: no key, hence no order among such records
	Value   []byte // nil: a tombstone
	Headers []Header
}

// ID is the event id, the text of header HeaderID, or "" when there is none. It allocates: keep it off the path of every row.
func (r Record) ID() string {
	for _, h := range r.Headers {
		if h.Key == HeaderID {
			return string(h.Value)
		}
	}
	return ""
}

// Size is the number of bytes of topic, key, value and headers, without Kafka's own framing.
func (r Record) Size() int {
	n := len(r.Topic) + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return n
}
