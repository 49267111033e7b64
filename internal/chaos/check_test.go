package chaos_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/chaos"
	"github.com/walpost/walpost/record"
)

// history is a good one: two aggregates with ten events each, two of every transaction of PostgreSQL, and as many of every transaction of Kafka, of which
// each third was aborted and done again.
func history() chaos.History {
	var h chaos.History
	offsets := make(map[int32]int64)
	marks, epoch := int64(0), int16(0)
	put := func(e chaos.Event, partition int32, at record.Position, aborted bool) {
		r := chaos.Record{
			Topic: e.Topic, Partition: partition, Offset: offsets[partition], Txn: chaos.Txn{Producer: 7, Epoch: epoch}, Aborted: aborted,
			ID: e.ID, Key: e.Key, Version: e.Version, Position: at, Sum: e.Sum,
		}
		offsets[partition]++
		h.All = append(h.All, r)
		if !aborted {
			h.Records, h.Seen = append(h.Records, r), append(h.Seen, r)
		}
	}
	for n := range 10 {
		commit := record.LSN(100 + n)
		events := []chaos.Event{
			{ID: fmt.Sprint("a", n+1), Topic: "things", Key: "a", Version: int64(n + 1), Sum: uint64(n)},
			{ID: fmt.Sprint("b", n+1), Topic: "things", Key: "b", Version: int64(n + 1), Sum: uint64(n)},
		}
		h.Committed = append(h.Committed, events...)
		for _, aborted := range []bool{true, false} {
			if aborted && n%3 != 0 {
				continue
			}
			for i, e := range events {
				put(e, int32(i), record.Position{Commit: commit, Index: uint32(i)}, aborted)
			}
			if !aborted {
				at := record.Position{Commit: commit, Index: 1}
				h.Marks = append(h.Marks, chaos.Mark{Offset: marks, Txn: chaos.Txn{Producer: 7, Epoch: epoch}, Position: at, EventID: events[1].ID, End: commit + 1})
				marks += 2
			}
			epoch++
		}
	}
	return h
}

func TestAGoodHistoryIsGood(t *testing.T) {
	t.Parallel()
	if v := chaos.Check(history()); !v.Good() || v.String() != "good" {
		t.Errorf("Check(a good history) = %s %q, want good", v, v.Examples)
	}
	if v := chaos.Check(chaos.History{}); !v.Good() {
		t.Errorf("Check(nothing) = %s, want good", v)
	}
}

func TestEachFlawIsFound(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spoil func(h *chaos.History)
		want  map[chaos.Flaw]int
	}{
		"an event is missing": {
			spoil: func(h *chaos.History) { without(h, 4) },
			want:  map[chaos.Flaw]int{chaos.Lost: 1},
		},
		"the last event of its transaction is missing": {
			spoil: func(h *chaos.History) { without(h, 5) },
			want:  map[chaos.Flaw]int{chaos.Lost: 1, chaos.Torn: 1},
		},
		"nothing was published": {
			spoil: func(h *chaos.History) { h.Records, h.Seen, h.All, h.Marks = nil, nil, nil, nil },
			want:  map[chaos.Flaw]int{chaos.Lost: 20},
		},
		"an event is there twice, in transactions of their own": {
			spoil: func(h *chaos.History) {
				again := h.Records[len(h.Records)-1]
				again.Offset, again.Txn = again.Offset+10, chaos.Txn{Producer: 8}
				everywhere(h, again)
				h.Marks = append(h.Marks, chaos.Mark{Offset: 99, Txn: again.Txn, Position: again.Position, EventID: again.ID, End: 200})
			},
			want: map[chaos.Flaw]int{chaos.Duplicated: 1, chaos.Torn: 1},
		},
		"an event was rolled back": {
			spoil: func(h *chaos.History) { h.Committed = h.Committed[:len(h.Committed)-1] },
			want:  map[chaos.Flaw]int{chaos.Phantom: 1},
		},
		"a record without an id": {
			spoil: func(h *chaos.History) { h.Records[6].ID, h.Seen[6].ID, h.All[8].ID = "", "", "" },
			want:  map[chaos.Flaw]int{chaos.Phantom: 1, chaos.Lost: 1},
		},
		"two events of an aggregate are the wrong way round": {
			spoil: func(h *chaos.History) {
				h.Records[4].ID, h.Records[6].ID = h.Records[6].ID, h.Records[4].ID
				h.Records[4].Version, h.Records[6].Version = h.Records[6].Version, h.Records[4].Version
				h.Records[4].Sum, h.Records[6].Sum = h.Records[6].Sum, h.Records[4].Sum
				h.Seen, h.All = nil, nil
			},
			want: map[chaos.Flaw]int{chaos.Reordered: 1, chaos.Unstable: 40},
		},
		"two events of a partition are in another order than their commits": {
			spoil: func(h *chaos.History) {
				h.Records[4].Position, h.Records[6].Position = h.Records[6].Position, h.Records[4].Position
			},
			want: map[chaos.Flaw]int{chaos.Reordered: 1, chaos.Torn: 2},
		},
		"an aggregate has two partitions": {
			spoil: func(h *chaos.History) {
				for _, list := range [][]chaos.Record{h.Records, h.Seen, h.All} {
					last := &list[len(list)-1]
					last.Partition, last.Offset = 2, 0
				}
			},
			want: map[chaos.Flaw]int{chaos.Reordered: 1},
		},
		"another payload": {
			spoil: func(h *chaos.History) { h.Records[3].Sum++ },
			want:  map[chaos.Flaw]int{chaos.Altered: 1},
		},
		"another key": {
			spoil: func(h *chaos.History) { h.Records[3].Key = "c" },
			want:  map[chaos.Flaw]int{chaos.Altered: 1},
		},
		"a transaction without a watermark": {
			spoil: func(h *chaos.History) { h.Marks = append(h.Marks[:3:3], h.Marks[4:]...) },
			want:  map[chaos.Flaw]int{chaos.Torn: 1},
		},
		"the last transaction without a watermark": {
			spoil: func(h *chaos.History) { h.Marks = h.Marks[:9] },
			want:  map[chaos.Flaw]int{chaos.Torn: 2},
		},
		"a watermark below the last event of its transaction": {
			spoil: func(h *chaos.History) { h.Marks[3].Position.Index = 0 },
			want:  map[chaos.Flaw]int{chaos.Torn: 1},
		},
		"a watermark that is above its events": {
			spoil: func(h *chaos.History) { h.Marks[3].Position.Index = 2 },
			want:  map[chaos.Flaw]int{chaos.Torn: 1},
		},
		"a watermark that goes back": {
			spoil: func(h *chaos.History) { h.Marks[5].End = 1 },
			want:  map[chaos.Flaw]int{chaos.Torn: 1},
		},
		"a record that was seen is gone": {
			spoil: func(h *chaos.History) {
				gone := h.Seen[len(h.Seen)-1]
				gone.Offset++
				h.Seen = append(h.Seen, gone)
			},
			want: map[chaos.Flaw]int{chaos.Unstable: 1},
		},
		"another record was seen in its place": {
			spoil: func(h *chaos.History) { h.Seen[2].ID = "b9" },
			want:  map[chaos.Flaw]int{chaos.Unstable: 1},
		},
		"a record was seen again": {
			spoil: func(h *chaos.History) { h.Seen = append(h.Seen, h.Seen[2]) },
			want:  map[chaos.Flaw]int{chaos.Unstable: 1},
		},
		"a record was not seen": {
			spoil: func(h *chaos.History) { h.Seen = append(h.Seen[:2:2], h.Seen[3:]...) },
			want:  map[chaos.Flaw]int{chaos.Unstable: 1},
		},
		"a record of an aborted transaction is visible": {
			spoil: func(h *chaos.History) { h.All[3].Aborted = true },
			want:  map[chaos.Flaw]int{chaos.Unstable: 1},
		},
		"a record of a committed transaction is not": {
			spoil: func(h *chaos.History) { h.All[0].Aborted = false },
			want:  map[chaos.Flaw]int{chaos.Unstable: 1},
		},
		"a relay has halted, and nothing justifies it": {
			spoil: func(h *chaos.History) {
				h.Exits = []chaos.Exit{{Relay: 2, Cause: "event_too_large", Excuse: "topic-limit"}, {Relay: 3, Cause: "slot_moved", Last: "walpost: relay halted"}}
			},
			want: map[chaos.Flaw]int{chaos.Halted: 1},
		},
		"the relay did not get through": {
			spoil: func(h *chaos.History) { h.Undrained = "slot is at 0/10" },
			want:  map[chaos.Flaw]int{chaos.Undrained: 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := history()
			tc.spoil(&h)
			v := chaos.Check(h)
			if diff := cmp.Diff(tc.want, v.Counts); diff != "" {
				t.Errorf("Check found (-want +got):\n%s\n%q", diff, v.Examples)
			}
			if v.Good() || len(v.Examples) == 0 {
				t.Errorf("Check = %s with examples %q, want some", v, v.Examples)
			}
		})
	}
}

// without takes a visible record out of everything that was read.
func without(h *chaos.History, n int) {
	gone := h.Records[n]
	for _, list := range []*[]chaos.Record{&h.Records, &h.Seen, &h.All} {
		var kept []chaos.Record
		for _, r := range *list {
			if r.Partition != gone.Partition || r.Offset != gone.Offset {
				kept = append(kept, r)
			}
		}
		*list = kept
	}
}

// everywhere adds a record to everything that was read.
func everywhere(h *chaos.History, r chaos.Record) {
	h.Records, h.Seen, h.All = append(h.Records, r), append(h.Seen, r), append(h.All, r)
}
