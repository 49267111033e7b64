package record

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a position in PostgreSQL's write-ahead log, a count of bytes. Zero is no position.
// See https://www.postgresql.org/docs/current/datatype-pg-lsn.html.
type LSN uint64

// ParseLSN reads PostgreSQL's text form, two hexadecimal numbers of up to eight digits with a slash between them, such as 16/B374D848.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("LSN %q: want two hexadecimal numbers with a slash between them", s)
	}
	high, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q: %w", s, err)
	}
	low, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("LSN %q: %w", s, err)
	}
	return LSN(high<<32 | low), nil
}

// String is PostgreSQL's text form: upper-case digits without leading zeros.
func (l LSN) String() string { return string(l.appendTo(nil)) }

func (l LSN) appendTo(dst []byte) []byte {
	return fmt.Appendf(dst, "%X/%X", uint32(l>>32), uint32(l))
}

// Scan reads a pg_lsn that was selected as text. NULL is zero.
func (l *LSN) Scan(src any) (err error) {
	switch src := src.(type) {
	case nil:
		*l = 0
	case string:
		*l, err = ParseLSN(src)
	case []byte:
		*l, err = ParseLSN(string(src))
	default:
		err = fmt.Errorf("LSN from %T: want text", src)
	}
	return err
}
