package inbox

// tracker knows which offsets of one partition were seen and which of them are done. Offsets that were never seen, because compaction, an
// aborted transaction or a marker took them, do not matter to it.
//
// It exists as a ring, and not as a set, because offsets come in ascending order and leave mostly in that order: marking one done is an
// index into the ring, without a search and without an allocation. It is not safe for concurrent use.
type tracker struct {
	ring  []slot // its length is a power of two; ticket t has ring[t%len]
	first uint64 // ticket of the lowest offset that is not done
	next  uint64 // ticket of the offset that will be seen next
	end   int64  // the highest offset seen, plus one
	top   int64  // the highest offset done, plus one
	epoch int32  // leader epoch of the record just below the frontier
	bytes int64  // of all records at or beyond the frontier, done or not: fetch buffers are freed in whole batches
}

type slot struct {
	offset int64
	time   int64 // the record's timestamp in Unix milliseconds
	bytes  int32
	epoch  int32
	done   bool
}

// track notes an offset that was read and returns its ticket. The offset must be above all that were tracked before; if it is not, ok is
// false and nothing is noted.
func (t *tracker) track(s slot) (ticket uint64, ok bool) {
	if s.offset < t.end {
		return 0, false
	}
	if t.next-t.first == uint64(len(t.ring)) {
		t.grow()
	}
	*t.at(t.next) = s
	t.next++
	t.end = s.offset + 1
	t.bytes += int64(s.bytes)
	return t.next - 1, true
}

// done marks a ticket's offset and lets the frontier pass everything that is done. Marking twice is the same as once.
func (t *tracker) done(ticket uint64) {
	if ticket < t.first || ticket >= t.next {
		return
	}
	s := t.at(ticket)
	s.done = true
	t.top = max(t.top, s.offset+1)
	for t.first < t.next && t.at(t.first).done {
		passed := t.at(t.first)
		t.epoch = passed.epoch
		t.bytes -= int64(passed.bytes)
		t.first++
	}
}

// frontier is the lowest offset that is not done, or the one after the last that was seen, with the leader epoch of the record before it.
// ok is false as long as nothing was done below it: then there is nothing to commit.
func (t *tracker) frontier() (offset int64, epoch int32, ok bool) {
	if t.first < t.next {
		return t.at(t.first).offset, t.epoch, t.first > 0
	}
	return t.end, t.epoch, t.first > 0
}

// open is the number of records at or beyond the frontier, done or not.
func (t *tracker) open() int { return int(t.next - t.first) }

// oldest is the timestamp, in Unix milliseconds, of the record at the frontier.
func (t *tracker) oldest() (milli int64, ok bool) {
	if t.first == t.next {
		return 0, false
	}
	return t.at(t.first).time, true
}

// gap is how far the highest offset done is ahead of the frontier.
func (t *tracker) gap() int64 {
	frontier, _, _ := t.frontier()
	return max(0, t.top-frontier)
}

func (t *tracker) at(ticket uint64) *slot { return &t.ring[ticket&uint64(len(t.ring)-1)] }

func (t *tracker) grow() {
	old := *t
	t.ring = make([]slot, max(64, 2*len(old.ring)))
	for ticket := old.first; ticket < old.next; ticket++ {
		*t.at(ticket) = *old.at(ticket)
	}
}
