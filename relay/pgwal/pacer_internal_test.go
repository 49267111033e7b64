package pgwal

import (
	"testing"
	"time"
)

// reads has the pacer see n reads, each of so many bytes and a time after the one before, and returns the pauses it asked for in between.
func reads(p *pacer, now *time.Time, n, bytes int, drained bool, apart time.Duration) (pauses int) {
	for range n {
		*now = now.Add(apart)
		if pause := p.after(bytes, drained, *now); pause > 0 {
			pauses++
			*now = now.Add(pause)
		}
	}
	return pauses
}

func TestEventsThatAreFewAreReadAtOnce(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]time.Duration{"one every 10 ms": 10 * time.Millisecond, "5,000 a second": 200 * time.Microsecond} {
		var p pacer
		now := time.Now()
		if pauses := reads(&p, &now, 1000, 700, true, apart); pauses != 0 {
			t.Errorf("%s: %d pauses, want none", name, pauses)
		}
	}
}

func TestAStreamThatKeepsComingIsReadInPauses(t *testing.T) {
	t.Parallel()
	var p pacer
	now := time.Now()
	if pauses := reads(&p, &now, paceReads, 700, true, 20*time.Microsecond); pauses != 1 {
		t.Errorf("%d pauses in the first %d reads, want one at their end", pauses, paceReads)
	}
	if pauses := reads(&p, &now, 100, 40<<10, true, time.Millisecond); pauses != 100 {
		t.Errorf("%d pauses in 100 reads that bring 40 kB each, want one after each", pauses)
	}
	if pauses := reads(&p, &now, 100, 40<<10, false, time.Microsecond); pauses != 0 {
		t.Errorf("%d pauses while there is more to read, want none", pauses)
	}
}

func TestAPauseThatBringsLittleIsTheLast(t *testing.T) {
	t.Parallel()
	var p pacer
	now := time.Now()
	reads(&p, &now, paceReads, 700, true, 20*time.Microsecond)
	if pauses := reads(&p, &now, 1, paceWorth-1, true, time.Millisecond); pauses != 0 {
		t.Errorf("a pause after %d bytes, want none", paceWorth-1)
	}
	if pauses := reads(&p, &now, paceReads-1, 700, true, 20*time.Microsecond); pauses != 0 {
		t.Errorf("%d pauses soon after, want that it takes %d reads again", pauses, paceReads)
	}
}
