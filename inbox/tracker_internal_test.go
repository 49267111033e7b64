package inbox

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// O1: the commit passes an unfinished offset. The model is the set of offsets seen and not done.
func TestTheFrontierNeverPassesAnUndoneOffset(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var tr tracker
		undone := map[int64]uint64{} // offset -> ticket
		sizes, epochs := map[int64]int32{}, map[int64]int32{}
		var tickets []uint64
		next, last := rapid.Int64Range(0, 1<<40).Draw(t, "first offset"), int64(-1)
		frontier := int64(-1)
		t.Repeat(map[string]func(*rapid.T){
			"track": func(t *rapid.T) {
				next += rapid.Int64Range(0, 3).Draw(t, "gap")
				s := slot{offset: next, bytes: rapid.Int32Range(0, 100).Draw(t, "bytes"), epoch: rapid.Int32Range(-1, 5).Draw(t, "epoch")}
				ticket, ok := tr.track(s)
				if !ok {
					t.Fatalf("track(%d) refused an offset above all others", next)
				}
				undone[next], sizes[next], epochs[next] = ticket, s.bytes, s.epoch
				tickets = append(tickets, ticket)
				last = next
				next++
			},
			"track again": func(t *rapid.T) {
				if last < 0 {
					t.Skip("nothing seen")
				}
				if _, ok := tr.track(slot{offset: last - rapid.Int64Range(0, 3).Draw(t, "back")}); ok {
					t.Fatal("track took an offset that is not above all others")
				}
			},
			"done": func(t *rapid.T) {
				if len(undone) == 0 {
					t.Skip("nothing to do")
				}
				offset := rapid.SampledFrom(slices.Sorted(maps.Keys(undone))).Draw(t, "offset")
				tr.done(undone[offset])
				delete(undone, offset)
			},
			"done again": func(t *rapid.T) {
				if len(tickets) == 0 {
					t.Skip("nothing seen")
				}
				ticket := rapid.SampledFrom(tickets).Draw(t, "ticket")
				if _, open := func() (int64, bool) {
					for offset, other := range undone {
						if other == ticket {
							return offset, true
						}
					}
					return 0, false
				}(); !open {
					tr.done(ticket)
				}
			},
			"": func(t *rapid.T) {
				offset, epoch, ok := tr.frontier()
				want, passed := last+1, len(tickets) > 0
				if len(undone) > 0 {
					want = slices.Min(slices.Collect(maps.Keys(undone)))
				}
				if len(tickets) == 0 {
					want, passed = 0, false
				}
				var bytes int64
				below, above := int64(-1), 0
				for o, n := range sizes {
					if o >= want {
						bytes += int64(n)
						above++
					} else {
						below = max(below, o)
					}
				}
				passed = passed && below >= 0
				if offset != want || ok != passed {
					t.Fatalf("frontier() = %d, %t, want %d, %t", offset, ok, want, passed)
				}
				if passed && epoch != epochs[below] {
					t.Fatalf("frontier() has epoch %d, want %d, that of offset %d", epoch, epochs[below], below)
				}
				if tr.bytes != bytes || tr.open() != above {
					t.Fatalf("window = %d records, %d bytes, want %d, %d", tr.open(), tr.bytes, above, bytes)
				}
				if ok && offset < frontier {
					t.Fatalf("frontier went back from %d to %d", frontier, offset)
				}
				frontier = max(frontier, offset)
			},
		})
	})
}

// O11: offsets beyond 32 bits.
func TestOffsetsBeyond32BitsAreKept(t *testing.T) {
	t.Parallel()
	const far = int64(1)<<40 + 7
	var tr tracker
	ticket, _ := tr.track(slot{offset: far})
	tr.done(ticket)
	if got, _, ok := tr.frontier(); got != far+1 || !ok {
		t.Errorf("frontier() = %d, %t, want %d, true", got, ok, far+1)
	}
}

func BenchmarkTracker(b *testing.B) {
	var tr tracker
	b.ReportAllocs()
	for i := range b.N {
		ticket, _ := tr.track(slot{offset: int64(i), bytes: 100})
		tr.done(ticket)
	}
}
