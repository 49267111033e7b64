package pgwal

import (
	"slices"
	"testing"
	"time"
)

// reads has the pacer see n reads, each of so many bytes and a time after the one before, with nothing left after each, and returns the pauses it asked for.
func reads(p *pacer, now *time.Time, n, bytes int, apart time.Duration) (pauses []time.Duration) {
	for range n {
		*now = now.Add(apart)
		p.took(bytes)
		if pause := p.drained(*now); pause > 0 {
			pauses = append(pauses, pause)
			*now = now.Add(pause)
		}
	}
	return pauses
}

// paced is a pacer that has just asked for its first pause.
func paced(t *testing.T, now *time.Time) *pacer {
	t.Helper()
	p := newPacer("tcp")
	if pauses := reads(&p, now, paceLooks, 700, 20*time.Microsecond); !slices.Equal(pauses, []time.Duration{paceShortest}) {
		t.Fatalf("pauses of %v in the first %d reads, want one at their end", pauses, paceLooks)
	}
	return &p
}

func TestEventsThatAreFewAreReadAtOnce(t *testing.T) {
	t.Parallel()
	for name, apart := range map[string]time.Duration{"one every 10 ms": 10 * time.Millisecond, "5,000 a second": 200 * time.Microsecond} {
		p := newPacer("tcp")
		now := time.Now()
		if pauses := reads(&p, &now, 1000, 700, apart); len(pauses) != 0 {
			t.Errorf("%s: %d pauses, want none", name, len(pauses))
		}
	}
}

func TestAStreamThatKeepsComingIsReadInPauses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := paced(t, &now)
	if pauses := reads(p, &now, 100, paceFast-1, time.Microsecond); len(pauses) != 100 || slices.Max(pauses) != paceShortest {
		t.Errorf("pauses of %v after 100 reads that bring %d bytes each, want the shortest after each", pauses, paceFast-1)
	}
}

func TestAFasterStreamIsReadInLongerPauses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := paced(t, &now)
	ms := time.Millisecond
	if got, want := reads(p, &now, 4, 9*paceFast, time.Microsecond), []time.Duration{2 * ms, 4 * ms, 8 * ms, 8 * ms}; !slices.Equal(got, want) {
		t.Errorf("pauses of %v while data comes fast, want %v", got, want)
	}
	if got, want := reads(p, &now, 2, 10*paceWorth, time.Microsecond), []time.Duration{4 * ms, 2 * ms}; !slices.Equal(got, want) {
		t.Errorf("pauses of %v when it comes slower, want %v", got, want)
	}
}

func TestAPauseThatBringsLittleIsTheLast(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := paced(t, &now)
	if pauses := reads(p, &now, 1, paceWorth-1, 0); len(pauses) != 0 {
		t.Errorf("a pause after %d bytes, want none", paceWorth-1)
	}
	if pauses := reads(p, &now, paceLooks-1, 700, 20*time.Microsecond); len(pauses) != 0 {
		t.Errorf("%d pauses soon after, want that it takes %d reads again", len(pauses), paceLooks)
	}
}

func TestAnEventLongAfterAPauseIsReadAtOnce(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := paced(t, &now)
	reads(p, &now, 10, 5*paceFast, time.Microsecond)
	if pauses := reads(p, &now, 1, 2*paceFast, time.Second); len(pauses) != 0 {
		t.Errorf("a pause of %v a second after the latest, want none", pauses)
	}
}

// A Unix socket takes less than a hundred small transactions, and its sender then stands still until it is read.
func TestAUnixSocketIsReadInShortPauses(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := newPacer("unix")
	pauses := reads(&p, &now, paceLooks+10, 100<<10, time.Microsecond)
	if want := slices.Repeat([]time.Duration{paceLocal}, 11); !slices.Equal(pauses, want) {
		t.Errorf("pauses of %v while data comes fast, want %v", pauses, want)
	}
}
