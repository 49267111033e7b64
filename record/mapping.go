package record

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Mapping says which column becomes which part of the record. The zero value is the mapping of walpost's own outbox table; a field that is
// not set has its default. Column names are compared exactly, as PostgreSQL stores them.
type Mapping struct {
	// ID is the column of the event id, of type uuid or text. Its text is header "id". It must not be NULL. Defaults to id.
	ID string

	// Key is the column of the record key: every value of one thing has one key, hence one partition and an order. A NULL gives a record
	// without key, which has no order. Defaults to aggregate_id.
	Key string

	// Payload is the column of the record value, of type json, jsonb, text or bytea (whose bytes are the value). A NULL is a tombstone.
	// Defaults to payload.
	Payload string

	// Placed are the columns that become headers, in this order after "id", as text; a NULL is a header with a null value. An entry
	// "column" gives a header of the column's name, "column:name" one of another name. An empty list that is not nil places none.
	// Defaults to event_type, aggregate_type, traceparent, headers.
	Placed []string

	// Topic is the topic's name with ${column} standing for a column's text, as in "outbox.event.${aggregate_type}".
	// Defaults to ${event_type}.
	Topic string
}

// WithDefaults is the mapping with every field set.
func (m Mapping) WithDefaults() Mapping {
	m.ID = cmp.Or(m.ID, "id")
	m.Key = cmp.Or(m.Key, "aggregate_id")
	m.Payload = cmp.Or(m.Payload, "payload")
	m.Topic = cmp.Or(m.Topic, "${event_type}")
	if m.Placed == nil {
		m.Placed = []string{HeaderEventType, HeaderAggregateType, HeaderTraceParent, HeaderHeaders}
	}
	return m
}

// IDColumn is the name of the column of the event id.
func (m Mapping) IDColumn() string { return m.WithDefaults().ID }

// Validate reports what is wrong with the mapping itself, before any table is known.
func (m Mapping) Validate() error {
	m = m.WithDefaults()
	parts, err := parseTopic(m.Topic)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if strings.ContainsFunc(p.text, func(r rune) bool { return r > unicode.MaxASCII || !topicByte(byte(r)) }) {
			return fmt.Errorf("topic %q: a topic's name has no character but a-z A-Z 0-9 . _ - outside of ${column}", m.Topic)
		}
	}
	if len(parts) == 1 && parts[0].column == "" {
		if err := CheckTopic(m.Topic); err != nil {
			return err
		}
	}
	seen := []string{HeaderID, HeaderLSN, HeaderIndex, HeaderCommittedAt}
	for _, entry := range m.Placed {
		column, header := splitPlaced(entry)
		if column == "" || header == "" {
			return fmt.Errorf("placed column %q: want column or column:header", entry)
		}
		if slices.Contains(seen, header) {
			return fmt.Errorf("placed column %q: header %q is written already", entry, header)
		}
		seen = append(seen, header)
	}
	return nil
}

// splitPlaced splits an entry of Mapping.Placed into column and header name.
func splitPlaced(entry string) (column, header string) {
	column, header, aliased := strings.Cut(entry, ":")
	if !aliased {
		header = column
	}
	return column, header
}

// Column is one column of a table, as PostgreSQL describes it.
type Column struct {
	Name    string
	TypeOID uint32
}

// MissingColumnError says that the table lacks a column that the mapping needs.
type MissingColumnError struct {
	Column string
	Have   []string // the table's columns
}

func (e *MissingColumnError) Error() string {
	return fmt.Sprintf("column %q is missing; the table has %s", e.Column, strings.Join(e.Have, ", "))
}

// ColumnTypeError says that a column's type cannot serve the purpose the mapping gives it.
type ColumnTypeError struct {
	Column  string
	TypeOID uint32 // see pg_type
	Want    string
}

func (e *ColumnTypeError) Error() string {
	return fmt.Sprintf("column %q has type OID %d; want %s", e.Column, e.TypeOID, e.Want)
}
