package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ErrNotAnEvent is what errors.Is finds in every error of Decode: the record was not written under this contract.
var ErrNotAnEvent = errors.New("record is not an outbox event")

// Message is an event as a consumer sees it.
type Message struct {
	ID            string
	Type          string // "": the record has no such header, or a null one
	AggregateType string
	Key           string
	Payload       []byte          // the record's value; nil is a tombstone. It is not copied and lives as long as the record does
	Headers       json.RawMessage // the writer's headers, a JSON object; nil when there are none
	TraceParent   string

	Position    *Position // nil: the relay did not write position headers
	CommittedAt time.Time // zero without position headers
}

// Decode reads a record with the header names of the default Mapping. Headers that it does not know are ignored, of several with one name
// the last counts. A record without an id, with headers that are neither a JSON object nor null, or with a position that is none gives an
// error that matches ErrNotAnEvent; its payload is not looked at.
func Decode(key, value []byte, headers []Header) (Message, error) {
	m := Message{Key: string(key), Payload: value}
	var p positionText
	for _, h := range headers {
		switch h.Key {
		case HeaderID:
			m.ID = string(h.Value)
		case HeaderEventType:
			m.Type = string(h.Value)
		case HeaderAggregateType:
			m.AggregateType = string(h.Value)
		case HeaderTraceParent:
			m.TraceParent = string(h.Value)
		case HeaderHeaders:
			m.Headers = h.Value
		case HeaderLSN:
			p.lsn = h.Value
		case HeaderIndex:
			p.index = h.Value
		case HeaderCommittedAt:
			p.committedAt = h.Value
		}
	}
	if m.ID == "" {
		return Message{}, fmt.Errorf("%w: it has no header %q", ErrNotAnEvent, HeaderID)
	}
	switch first := bytes.TrimLeft(m.Headers, " \t\r\n"); {
	case m.Headers == nil:
	case !json.Valid(m.Headers) || first[0] != '{' && first[0] != 'n':
		return Message{}, fmt.Errorf("%w: event %q: header %q is not a JSON object", ErrNotAnEvent, m.ID, HeaderHeaders)
	case first[0] == 'n': // null
		m.Headers = nil
	}
	if err := p.decode(&m); err != nil {
		return Message{}, fmt.Errorf("%w: event %q: %w", ErrNotAnEvent, m.ID, err)
	}
	return m, nil
}

// positionText holds the position headers until all are read; they count together or not at all.
type positionText struct{ lsn, index, committedAt []byte }

func (p positionText) decode(m *Message) error {
	if p.lsn == nil && p.index == nil && p.committedAt == nil {
		return nil
	}
	commit, err := ParseLSN(string(p.lsn))
	if err != nil {
		return fmt.Errorf("header %q: %w", HeaderLSN, err)
	}
	index, err := strconv.ParseUint(string(p.index), 10, 32)
	if err != nil {
		return fmt.Errorf("header %q: %w", HeaderIndex, err)
	}
	at, err := time.Parse(committedAtLayout, string(p.committedAt))
	if err != nil {
		return fmt.Errorf("header %q: %w", HeaderCommittedAt, err)
	}
	m.Position, m.CommittedAt = &Position{Commit: commit, Index: uint32(index)}, at
	return nil
}
