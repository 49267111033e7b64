package record

import (
	"cmp"
	"fmt"
	"strconv"
	"time"
)

// Names of the position headers. They are opt-in, because another relay does not write them, and stand after all other headers.
const (
	HeaderLSN         = "walpost_lsn"          // LSN of the transaction's commit record, as in 16/B374D848
	HeaderIndex       = "walpost_index"        // place of the event in its transaction, from 0, in decimal
	HeaderCommittedAt = "walpost_committed_at" // commit time in UTC with microseconds, RFC 3339
)

const committedAtLayout = "2006-01-02T15:04:05.000000Z"

// Position is an event's place in commit order: the LSN of its transaction's commit record and its index among that transaction's events.
// The LSN of a row is no position: rows of concurrent transactions interleave, and rows of one COPY share one.
type Position struct {
	Commit LSN
	Index  uint32
}

// Compare is negative when p is before q, zero when they are equal, positive when p is after q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Commit, q.Commit), cmp.Compare(p.Index, q.Index))
}

// String is the commit LSN and the index, as in 16/B374D848#3.
func (p Position) String() string { return fmt.Sprintf("%s#%d", p.Commit, p.Index) }

// AppendPosition appends the three position headers to dst.
func AppendPosition(dst []Header, p Position, committedAt time.Time) []Header {
	return append(dst,
		Header{Key: HeaderLSN, Value: p.Commit.appendTo(nil)},
		Header{Key: HeaderIndex, Value: strconv.AppendUint(nil, uint64(p.Index), 10)},
		Header{Key: HeaderCommittedAt, Value: committedAt.UTC().AppendFormat(nil, committedAtLayout)},
	)
}
