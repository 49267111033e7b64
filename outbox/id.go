package outbox

import (
	"crypto/rand"
	"database/sql/driver"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// EventID names one event for good: it is the primary key of the outbox row, the header id of the Kafka record and
// the key by which an inbox recognises a duplicate. NewID makes UUIDv7; any other UUID is carried as well, and lands
// in the table's default partition.
//
// The zero value stands for "none yet": Append replaces it. EventID is comparable and safe for concurrent use.
type EventID [16]byte

// ErrInvalidID is what ParseID, UnmarshalText and Scan return, wrapped, for text that is not a UUID.
var ErrInvalidID = errors.New("not a UUID of 36 characters")

// ticksPerMilli divides a millisecond as finely as the 12 bits of rand_a can tell: a tick is about 244 ns.
const ticksPerMilli = 1 << 12

// NewID returns a UUIDv7 of the current time: 48 bits of Unix milliseconds, 12 bits of the fraction of the
// millisecond (RFC 9562, section 6.2, method 3) and 62 bits from crypto/rand. Two ids made by one process more than a
// tick of 244 ns apart sort in the order of their making, as long as the clock is not set back; nothing in walpost
// depends on that order, which is commit order.
func NewID() EventID { return newID(tick(time.Now())) }

// tick is the time in units of 1/4096 of a millisecond, which fit in 60 bits until the year 10889.
func tick(t time.Time) uint64 {
	fraction := uint64(t.Nanosecond()) % uint64(time.Millisecond)
	return uint64(t.UnixMilli())*ticksPerMilli + fraction*ticksPerMilli/uint64(time.Millisecond)
}

func newID(tick uint64) EventID {
	var id EventID
	binary.BigEndian.PutUint64(id[:8], tick/ticksPerMilli<<16|0x7000|tick%ticksPerMilli) // 0x7000: version 7
	_, _ = rand.Read(id[8:])                                                             // documented never to fail
	id[8] = id[8]&0x3f | 0x80                                                            // the variant of RFC 9562
	return id
}

// ParseID reads the text form with four hyphens and 36 characters, in either case, of a UUID of any version. The
// error wraps ErrInvalidID.
func ParseID(s string) (EventID, error) {
	var id EventID
	if err := id.UnmarshalText([]byte(s)); err != nil {
		return EventID{}, err
	}
	return id, nil
}

// IsZero reports whether id is the zero value, which Append replaces by a new id.
func (id EventID) IsZero() bool { return id == EventID{} }

// String returns the 36 characters of the text form, in lower case.
func (id EventID) String() string {
	text, _ := id.MarshalText() // never fails
	return string(text)
}

// MarshalText implements encoding.TextMarshaler with the form of String. It never fails.
func (id EventID) MarshalText() ([]byte, error) {
	text := make([]byte, 36)
	for _, g := range groups {
		hex.Encode(text[g.text:], id[g.from:g.to])
		if g.text > 0 {
			text[g.text-1] = '-'
		}
	}
	return text, nil
}

// UnmarshalText implements encoding.TextUnmarshaler. It takes what ParseID takes and leaves id alone when it fails.
func (id *EventID) UnmarshalText(text []byte) error {
	if len(text) != 36 {
		return fmt.Errorf("parse event id: %w: it has %d", ErrInvalidID, len(text))
	}
	var parsed EventID
	for _, g := range groups {
		if g.text > 0 && text[g.text-1] != '-' {
			return fmt.Errorf("parse event id %q: %w: no hyphen at position %d", text, ErrInvalidID, g.text-1)
		}
		if _, err := hex.Decode(parsed[g.from:g.to], text[g.text:g.text+2*(g.to-g.from)]); err != nil {
			return fmt.Errorf("parse event id %q: %w: %w", text, ErrInvalidID, err)
		}
	}
	*id = parsed
	return nil
}

// groups are the five runs of hexadecimal digits: bytes from..to of the id stand at offset text of its text form.
var groups = [...]struct{ from, to, text int }{{0, 4, 0}, {4, 6, 9}, {6, 8, 14}, {8, 10, 19}, {10, 16, 24}}

// Value implements driver.Valuer with the text form, which every driver can send as a uuid or as text. The zero id is
// a value too, not NULL.
func (id EventID) Value() (driver.Value, error) { return id.String(), nil }

// Scan implements sql.Scanner for uuid and text columns: it takes the text form as string or bytes, and the 16 raw
// bytes. NULL is an error.
func (id *EventID) Scan(src any) error {
	switch src := src.(type) {
	case string:
		return id.UnmarshalText([]byte(src))
	case []byte:
		if len(src) == len(id) {
			copy(id[:], src)
			return nil
		}
		return id.UnmarshalText(src)
	default:
		return fmt.Errorf("scan event id: %w: it is a %T", ErrInvalidID, src)
	}
}
