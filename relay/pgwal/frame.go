package pgwal

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/walpost/walpost/relay"
)

// Frames of streaming replication, carried in CopyData both ways.
// See https://www.postgresql.org/docs/current/protocol-replication.html.
const (
	frameData      = 'w'
	frameKeepalive = 'k'
	frameStatus    = 'r'
)

// decodeData is the pgoutput message in an XLogData frame, and when the server sent it, by its own clock, in microseconds since 2000. The positions
// before it are the server's send positions, which say nothing about what was sent, so nothing is read from them.
func decodeData(src []byte) (message []byte, sent int64, err error) {
	const positions, header = 2 * 8, 3 * 8 // start, end of log; time
	if len(src) <= header {
		return nil, 0, fmt.Errorf("data frame of %d bytes: %w", len(src), errShort)
	}
	return src[header:], int64(binary.BigEndian.Uint64(src[positions:])), nil
}

// keepalive says how far the server has sent.
type keepalive struct {
	end   relay.LSN // every transaction that ends at or before it was sent before this frame
	reply bool      // the server wants to hear from us at once
}

func decodeKeepalive(src []byte) (keepalive, error) {
	r := reader{src: src}
	k := keepalive{end: relay.LSN(r.uint64())}
	r.time()
	k.reply = r.uint8() != 0
	if r.err != nil {
		return k, fmt.Errorf("keepalive frame: %w", r.err)
	}
	return k, nil
}

// appendStatus appends a whole CopyData message with a standby status update. Written, flushed and applied are the same for us, and each is
// set: a server that finds flushed zero may take written for it.
func appendStatus(dst []byte, confirmed relay.LSN, now time.Time, reply bool) []byte {
	const length = 4 + 1 + 3*8 + 8 + 1
	dst = append(dst, 'd')
	dst = binary.BigEndian.AppendUint32(dst, length)
	dst = append(dst, frameStatus)
	for range 3 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(confirmed))
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(now.Sub(postgresEpoch).Microseconds()))
	if reply {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// terminate is the whole message that ends a session.
const terminate = "X\x00\x00\x00\x04"
