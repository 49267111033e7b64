package record

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// RowDecoder makes records of rows that a connector published whole: JSON objects whose keys are the columns and whose strings are the
// columns' text, as Debezium's connector with the unwrap transform and JsonConverter without schemas writes them. The record is, byte for
// byte, the one that Encoder makes of the row. It is not safe for concurrent use.
type RowDecoder struct {
	encoder *Encoder
	names   []string // the mapping's columns, in the order in which the encoder takes their values
	base64  string   // column that holds bytes as base64, "" when there is none

	values [][]byte // of the row at hand; the record keeps the values, not this slice
}

// NewRowDecoder makes a decoder of rows whose payload is json, jsonb or text. The error says what is wrong with the mapping.
func NewRowDecoder(m Mapping) (*RowDecoder, error) {
	m = m.WithDefaults()
	d := &RowDecoder{names: m.columns()}
	columns := make([]Column, len(d.names))
	for i, name := range d.names {
		columns[i] = Column{Name: name, TypeOID: oidText} // a row of JSON does not say more, and text is what it holds
	}
	var err error
	if d.encoder, err = m.Resolve(columns); err != nil {
		return nil, err
	}
	d.values = make([][]byte, len(d.names))
	return d, nil
}

// NewBase64RowDecoder is NewRowDecoder for a payload of type bytea, which is base64 in JSON and cannot be told from text there.
func NewBase64RowDecoder(m Mapping) (*RowDecoder, error) {
	d, err := NewRowDecoder(m)
	if err != nil {
		return nil, err
	}
	d.base64 = m.WithDefaults().Payload
	return d, nil
}

// columns are the names of all columns that the mapping reads, each once.
func (m Mapping) columns() []string {
	var names []string
	seen := make(map[string]bool)
	add := func(name string) {
		if name != "" && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	add(m.ID)
	add(m.Key)
	add(m.Payload)
	for _, entry := range m.Placed {
		column, _ := splitPlaced(entry)
		add(column)
	}
	parts, _ := parseTopic(m.Topic) // Resolve reports the error
	for _, p := range parts {
		add(p.column)
	}
	return names
}

// Decode makes the record of one row. Its error matches ErrNotAnEvent when the value is no row of an outbox, ErrUnpublishable when it is one
// that can never become a record. Any other error is about the connector or the mapping rather than about this row: the rows that follow
// would meet it as well, so that passing over one helps nobody.
func (d *RowDecoder) Decode(value []byte) (Record, error) {
	var row map[string]json.RawMessage
	if err := json.Unmarshal(value, &row); err != nil || row == nil {
		return Record{}, fmt.Errorf("%w: its value is not a JSON object", ErrNotAnEvent)
	}
	id := d.names[0]
	if _, ok := row[id]; !ok {
		return Record{}, notARow(row, id)
	}
	for i, name := range d.names {
		raw, ok := row[name]
		if !ok {
			return Record{}, fmt.Errorf("row %s: %w", row[id], missingFrom(row, name))
		}
		text, err := columnText(raw)
		if err == nil && name == d.base64 && text != nil {
			text, err = decodeBase64(text)
		}
		if err != nil {
			return Record{}, fmt.Errorf("row %s: column %q: %w", row[id], name, err)
		}
		d.values[i] = text
	}
	return d.encoder.Encode(d.values)
}

// notARow says why an object without the id's column is none. What only a connector that is set up otherwise would write is no
// ErrNotAnEvent: every row would be passed over.
func notARow(row map[string]json.RawMessage, id string) error {
	has := func(names ...string) bool {
		for _, name := range names {
			if _, ok := row[name]; !ok {
				return false
			}
		}
		return true
	}
	switch {
	case len(row) == 2 && has("schema", "payload"):
		return errors.New("the rows come wrapped in their schema: set value.converter.schemas.enable=false on the connector (walpost connector apply --raw)")
	case has("op", "after", "source"):
		return errors.New("the rows come in Debezium's envelope: the connector lacks the unwrap transform (walpost connector apply --raw)")
	}
	return fmt.Errorf("%w: it is an object without %q", ErrNotAnEvent, id)
}

func missingFrom(row map[string]json.RawMessage, name string) error {
	e := &MissingColumnError{Column: name}
	for have := range row {
		e.Have = append(e.Have, have)
	}
	return e
}

// columnText is a column's text: of a string its characters, of an integer its digits, nil of null. Of a fraction, a boolean or a nested
// value the text that PostgreSQL has is not known here.
func columnText(raw json.RawMessage) ([]byte, error) {
	switch {
	case len(raw) > 0 && raw[0] == '"':
		return unquote(raw[1 : len(raw)-1])
	case string(raw) == "null":
		return nil, nil
	case isInteger(raw):
		return raw, nil
	}
	kind := map[byte]string{'{': "an object", '[': "an array", 't': "a boolean", 'f': "a boolean"}[raw[0]] // never the value: it may be a payload
	return nil, fmt.Errorf("it is %s, not text: only text, uuid, json and integer columns have a text that every relay writes alike",
		cmp.Or(kind, "a number with a fraction"))
}

func isInteger(raw []byte) bool {
	if len(raw) > 1 && raw[0] == '-' {
		raw = raw[1:]
	}
	for _, c := range raw {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(raw) > 0
}

// unquote is what stands between the quotes of a valid JSON string, as UTF-8. It refuses what encoding/json would replace by U+FFFD, and the
// NUL that no text of PostgreSQL has: a record must not say something else than the row. Without an escape it returns its argument.
func unquote(s []byte) ([]byte, error) {
	if !utf8.Valid(s) {
		return nil, fmt.Errorf("%w: it is not UTF-8", ErrNotAnEvent)
	}
	var out []byte
	for {
		i := 0
		for i < len(s) && s[i] != '\\' {
			i++
		}
		if i == len(s) {
			break
		}
		if out == nil {
			out = make([]byte, 0, len(s))
		}
		out = append(out, s[:i]...)
		r, n := unescape(s[i:])
		if r <= 0 {
			return nil, fmt.Errorf("%w: the escape %.6s stands for no character of a text", ErrNotAnEvent, s[i:])
		}
		out = utf8.AppendRune(out, r)
		s = s[i+n:]
	}
	if out == nil {
		return s, nil
	}
	return append(out, s...), nil
}

// unescape reads the escape at the beginning of s, which is valid JSON, and how long it is. A half of a surrogate pair gives -1.
func unescape(s []byte) (r rune, n int) {
	switch s[1] {
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'u':
		r = codeUnit(s)
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(s) < 12 || s[6] != '\\' || s[7] != 'u' {
			return -1, 6
		}
		if r = utf16.DecodeRune(r, codeUnit(s[6:])); r == utf8.RuneError {
			return -1, 12
		}
		return r, 12
	}
	return rune(s[1]), 2 // a quote, a slash or a backslash
}

func codeUnit(s []byte) rune {
	u, err := strconv.ParseUint(string(s[2:6]), 16, 16)
	if err != nil {
		return -1 // not in valid JSON
	}
	return rune(u)
}

func decodeBase64(text []byte) ([]byte, error) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(out, text)
	if err != nil {
		return nil, fmt.Errorf("it is not base64, as bytes are under binary.handling.mode=bytes: %w", err)
	}
	return out[:n], nil
}
