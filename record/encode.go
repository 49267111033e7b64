package record

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// ErrUnpublishable is what errors.Is finds in every error of Encode: the row can never become a record.
var ErrUnpublishable = errors.New("row cannot become a record")

// Type OIDs of pg_type that matter here.
const (
	oidBytea   = 17
	oidInt8    = 20
	oidInt2    = 21
	oidInt4    = 23
	oidText    = 25
	oidJSON    = 114
	oidBpchar  = 1042
	oidVarchar = 1043
	oidUUID    = 2950
	oidJSONB   = 3802

	// oidFirstUser is where types begin that users made: enums and domains, which travel as their text.
	// See FirstNormalObjectId in PostgreSQL's access/transam.h.
	oidFirstUser = 16384
)

// Encoder makes records from the rows of one table layout. It is not safe for concurrent use.
type Encoder struct {
	used    []Column
	columns int // number of values in a row
	id      int // the other fields are indexes into a row
	key     int
	payload int
	bytea   bool // payload is hexadecimal text of bytes
	placed  []placedColumn
	topic   []topicColumn

	topics  map[string]string // topics seen and checked, so that a row makes no string of its own
	scratch []byte
	slab    []Header // headers of the rows to come
}

type placedColumn struct {
	index  int
	header string
}

type topicColumn struct {
	text  string
	index int // -1: literal text
}

const (
	slabRows  = 64   // rows that share one allocation of headers
	maxTopics = 1024 // topics remembered; beyond that all are forgotten, which costs time and nothing else
)

// Resolve finds the mapping's columns among those of a table. Call it once for each Relation message. The error is a *MissingColumnError, a
// *ColumnTypeError, or says what is wrong with the mapping. Columns that the mapping does not name are ignored.
func (m Mapping) Resolve(columns []Column) (*Encoder, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	m = m.WithDefaults()
	r := resolver{columns: columns}
	e := &Encoder{columns: len(columns), topics: make(map[string]string)}
	e.id = r.index(m.ID, "uuid or text", oidUUID, oidText, oidVarchar, oidBpchar)
	e.key = r.text(m.Key)
	e.payload = r.index(m.Payload, "json, jsonb, text or bytea", oidJSON, oidJSONB, oidText, oidVarchar, oidBytea)
	for _, entry := range m.Placed {
		column, header := splitPlaced(entry)
		e.placed = append(e.placed, placedColumn{index: r.text(column), header: header})
	}
	parts, err := parseTopic(m.Topic)
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.column == "" {
			e.topic = append(e.topic, topicColumn{text: p.text, index: -1})
			continue
		}
		e.topic = append(e.topic, topicColumn{index: r.text(p.column)})
	}
	if r.err != nil {
		return nil, r.err
	}
	e.used, e.bytea = r.used, columns[e.payload].TypeOID == oidBytea
	return e, nil
}

// Columns are the columns that the encoder reads, with their types, in the order of the mapping's fields. Two encoders of one mapping whose
// Columns are equal make equal records of equal rows.
func (e *Encoder) Columns() []Column { return e.used }

// resolver finds columns; its first error sticks.
type resolver struct {
	columns []Column
	used    []Column
	err     error
}

// text is the index of a column whose text form is the same in every session and in every relay. Numbers with a fraction, times and
// booleans are refused: their text depends on who prints it. So is the catalog's own type name, which Debezium publishes as null.
//
// Types that users made are taken without a look at what they are made of. The text of an enum is the same everywhere; that of a domain over
// one of the refused types is only the same in sessions with the same settings, such as those of the relay, which fixes them.
func (r *resolver) text(name string) int {
	return r.index(name, "a text, uuid, json or integer type",
		oidText, oidVarchar, oidBpchar, oidUUID, oidJSON, oidJSONB, oidInt2, oidInt4, oidInt8, oidFirstUser)
}

func (r *resolver) index(name, want string, types ...uint32) int {
	i := slices.IndexFunc(r.columns, func(c Column) bool { return c.Name == name })
	if r.err != nil {
		return 0
	}
	if i < 0 {
		have := make([]string, 0, len(r.columns))
		for _, c := range r.columns {
			have = append(have, c.Name)
		}
		r.err = &MissingColumnError{Column: name, Have: have}
		return 0
	}
	oid := r.columns[i].TypeOID
	if !slices.Contains(types, min(oid, oidFirstUser)) {
		r.err = &ColumnTypeError{Column: name, TypeOID: oid, Want: want}
	}
	r.used = append(r.used, r.columns[i])
	return i
}

// Encode makes the record of one row, whose values are PostgreSQL's text forms in the table's column order; nil is NULL. The record's slices
// point into values (a bytea payload is decoded and is the exception). Every error matches ErrUnpublishable.
func (e *Encoder) Encode(values [][]byte) (Record, error) {
	if len(values) != e.columns {
		return Record{}, fmt.Errorf("%w: it has %d values for %d columns", ErrUnpublishable, len(values), e.columns)
	}
	if len(values[e.id]) == 0 {
		return Record{}, fmt.Errorf("%w: its id is NULL or empty", ErrUnpublishable)
	}
	topic, err := e.topicOf(values)
	if err != nil {
		return Record{}, fmt.Errorf("%w: event %s: %w", ErrUnpublishable, values[e.id], err)
	}
	value := values[e.payload]
	if e.bytea && value != nil {
		if value, err = decodeBytea(value); err != nil {
			return Record{}, fmt.Errorf("%w: event %s: %w", ErrUnpublishable, values[e.id], err)
		}
	}
	return Record{Topic: topic, Key: values[e.key], Value: value, Headers: e.headersOf(values)}, nil
}

// Salvage makes what there is of the record of a row that Encode refuses: without a topic, and with the payload's text where that is no payload. The
// error matches ErrUnpublishable: nothing can be said of a row with too few or too many values.
func (e *Encoder) Salvage(values [][]byte) (Record, error) {
	if len(values) != e.columns {
		return Record{}, fmt.Errorf("%w: it has %d values for %d columns", ErrUnpublishable, len(values), e.columns)
	}
	value := values[e.payload]
	if e.bytea && value != nil {
		if bytes, err := decodeBytea(value); err == nil {
			value = bytes
		}
	}
	headers := e.headersOf(values)
	if values[e.id] == nil {
		headers = headers[1:] // rather than an id that is null
	}
	return Record{Key: values[e.key], Value: value, Headers: headers}, nil
}

// headersOf are the headers of one row.
func (e *Encoder) headersOf(values [][]byte) []Header {
	headers := e.takeHeaders()
	headers[0] = Header{Key: HeaderID, Value: values[e.id]}
	for i, p := range e.placed {
		headers[i+1] = Header{Key: p.header, Value: values[p.index]}
	}
	return headers
}

// takeHeaders cuts the headers of one record off the slab. Their capacity ends with them, so that appending to one record's headers
// copies them and leaves the next record's alone.
func (e *Encoder) takeHeaders() []Header {
	n := 1 + len(e.placed)
	if len(e.slab) < n {
		e.slab = make([]Header, n*slabRows)
	}
	headers := e.slab[:n:n]
	e.slab = e.slab[n:]
	return headers
}

func (e *Encoder) topicOf(values [][]byte) (string, error) {
	e.scratch = e.scratch[:0]
	for _, p := range e.topic {
		if p.index < 0 {
			e.scratch = append(e.scratch, p.text...)
			continue
		}
		if values[p.index] == nil {
			return "", errors.New("a column of its topic is NULL")
		}
		e.scratch = append(e.scratch, values[p.index]...)
	}
	if topic, ok := e.topics[string(e.scratch)]; ok {
		return topic, nil
	}
	topic := string(e.scratch)
	if err := CheckTopic(topic); err != nil {
		return "", err
	}
	if len(e.topics) >= maxTopics {
		clear(e.topics)
	}
	e.topics[topic] = topic
	return topic, nil
}

// decodeBytea turns the text form under bytea_output = hex, which the relay sets for its session, into bytes.
func decodeBytea(text []byte) ([]byte, error) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' {
		return nil, errors.New(`bytea payload is not in the form \x…: set bytea_output = hex on the session`)
	}
	out := make([]byte, hex.DecodedLen(len(text)-2))
	if _, err := hex.Decode(out, text[2:]); err != nil {
		return nil, fmt.Errorf("bytea payload: %w", err)
	}
	return out, nil
}
