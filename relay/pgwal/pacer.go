package pgwal

import "time"

// pacer tells a reader when to let data pile up before it reads again.
//
// PostgreSQL flushes every message of a stream, and a packet that wakes its reader is paid by the sender: a reader that takes each row as it comes
// slows the server down to some 35,000 rows a second. One that looks every millisecond is woken by nobody. So while data keeps coming, the reader pauses
// whenever it has taken all there was. Events that are few never wait: it takes several reads in quick succession to begin, and a pause that brought
// little to end.
type pacer struct {
	since   time.Time // when the reads that are counted began
	reads   int
	keeps   bool // data keeps coming
	brought int  // bytes since the latest pause
}

const (
	// paceReads reads that each took all there was, within paceWithin, are data that keeps coming.
	paceReads  = 16
	paceWithin = 2 * time.Millisecond

	// paceWorth is the least that a pause must bring for the next one.
	paceWorth = 4 << 10

	pacePause = time.Millisecond
)

// after is how long to pause before the next read, when one of n bytes has ended at now. drained says that it has left nothing.
func (p *pacer) after(n int, drained bool, now time.Time) time.Duration {
	p.brought += n
	switch {
	case !drained:
		return 0
	case p.keeps && p.brought < paceWorth:
		p.keeps, p.reads = false, 0
		return 0
	case !p.keeps && !p.kept(now):
		return 0
	}
	p.brought = 0
	return pacePause
}

// kept counts a read.
func (p *pacer) kept(now time.Time) bool {
	if p.reads == 0 || now.Sub(p.since) > paceWithin {
		p.since, p.reads = now, 0
	}
	p.reads++
	p.keeps = p.reads >= paceReads
	return p.keeps
}
