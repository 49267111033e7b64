package pgwal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

var errShort = errors.New("message is cut short")

// reader takes values off the front of src. Its first error sticks, after which every value is zero, so that a decoder checks once, at its end.
// Byte slices point into src.
type reader struct {
	src []byte
	err error
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n < 0 || n > len(r.src) {
		r.fail(errShort)
		return nil
	}
	out := r.src[:n:n]
	r.src = r.src[n:]
	return out
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.src = nil
}

func (r *reader) uint8() uint8 {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// text reads up to a zero byte.
func (r *reader) text() string {
	n := bytes.IndexByte(r.src, 0)
	if n < 0 {
		r.fail(errShort)
		return ""
	}
	out := string(r.src[:n])
	r.src = r.src[n+1:]
	return out
}

// postgresEpoch is where PostgreSQL counts microseconds from.
var postgresEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (r *reader) time() time.Time { return postgresTime(int64(r.uint64())) }

func postgresTime(microseconds int64) time.Time {
	return postgresEpoch.Add(time.Duration(microseconds) * time.Microsecond)
}
