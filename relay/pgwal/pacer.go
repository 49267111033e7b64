package pgwal

import "time"

// pacer tells a reader when to let data pile up before it reads again.
//
// PostgreSQL flushes every message of a stream, and a packet that wakes its reader is paid by the sender: a reader that takes each row as it comes
// slows the server down to some 35,000 rows a second. One that looks every few milliseconds is woken by nobody, and lets the server work undisturbed. So
// while data keeps coming, the reader pauses whenever it has taken all there was: a millisecond, and up to eight while it comes fast. Events that are few
// never wait: it takes several looks in quick succession to begin, and a pause that brought little to end.
type pacer struct {
	shortest, longest time.Duration

	since   time.Time     // when the looks that are counted began
	looks   int           // that found nothing, since then
	pause   time.Duration // the latest; zero while no data keeps coming
	began   time.Time     // when it did
	brought int           // bytes since then
}

const (
	// paceLooks looks that found nothing, each after data that came since the one before, within paceWithin, are data that keeps coming.
	paceLooks  = 16
	paceWithin = 2 * time.Millisecond

	paceShortest = time.Millisecond
	paceLongest  = 8 * time.Millisecond

	// paceLocal is the pause of a Unix socket. It holds some 200 KiB (net.core.wmem_default), in which each message counts with what the kernel keeps of it:
	// less than a hundred small transactions, and then its sender stands still.
	paceLocal = 250 * time.Microsecond

	// paceWorth is what must come per millisecond for another pause, and paceFast for one of twice its length.
	paceWorth = 4 << 10
	paceFast  = 16 << 10
)

// newPacer is for a connection of the network, named as package net does.
func newPacer(network string) pacer {
	if network == "unix" {
		return pacer{shortest: paceLocal, longest: paceLocal}
	}
	return pacer{shortest: paceShortest, longest: paceLongest}
}

// took counts what a read has brought.
func (p *pacer) took(n int) { p.brought += n }

// drained is how long to pause when a look at now has found nothing.
func (p *pacer) drained(now time.Time) time.Duration {
	switch {
	case p.pause > 0:
		p.pause = p.next(now)
	case p.keepsComing(now):
		p.pause = p.shortest
	default:
		return 0
	}
	p.began, p.brought, p.looks = now, 0, 0
	return p.pause
}

// next is the length of the pause that follows one, if one does.
func (p *pacer) next(now time.Time) time.Duration {
	elapsed := max(now.Sub(p.began), p.pause)
	switch rate := float64(p.brought) / (elapsed.Seconds() * 1000); {
	case rate < paceWorth:
		return 0
	case rate >= paceFast:
		return min(2*p.pause, p.longest)
	}
	return max(p.pause/2, p.shortest)
}

// keepsComing counts a look that has found nothing.
func (p *pacer) keepsComing(now time.Time) bool {
	if p.looks == 0 || now.Sub(p.since) > paceWithin {
		p.since, p.looks = now, 0
	}
	p.looks++
	return p.looks >= paceLooks
}
