package chaos

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Flaw is a way in which a history contradicts the claim of exactly once.
type Flaw string

// The flaws.
const (
	Lost       Flaw = "lost"       // committed, and not in the topic
	Duplicated Flaw = "duplicated" // in the topic again
	Phantom    Flaw = "phantom"    // in the topic, and never committed
	Reordered  Flaw = "reordered"  // behind a later event of its aggregate, or of its partition
	Altered    Flaw = "altered"    // other bytes, key or topic than were written
	Torn       Flaw = "torn"       // a transaction whose events and watermark do not belong together, or a watermark below what is visible
	Unstable   Flaw = "unstable"   // seen while reading along, or reading everything, and otherwise in the end
	Halted     Flaw = "halted"     // a relay ended by itself, and no fault justifies it
	Undrained  Flaw = "undrained"  // the relay did not get through after everything was healed
)

// Flaws are all of them, in the order of reports.
func Flaws() []Flaw {
	return []Flaw{Lost, Duplicated, Phantom, Reordered, Altered, Torn, Unstable, Halted, Undrained}
}

// Verdict says what is wrong with a history.
type Verdict struct {
	Counts map[Flaw]int `json:"counts"` // without those that are zero

	// Examples are the first of each flaw, in words.
	Examples []string `json:"examples,omitempty"`
}

// Good says that nothing is wrong.
func (v Verdict) Good() bool { return len(v.Counts) == 0 }

// String is the counts, such as "lost 3, duplicated 1", or "good".
func (v Verdict) String() string {
	var parts []string
	for _, flaw := range Flaws() {
		if n := v.Counts[flaw]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", flaw, n))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "good")
}

// examples is how many of each flaw are told in words.
const examples = 3

func (v *Verdict) add(flaw Flaw, format string, args ...any) {
	if v.Counts == nil {
		v.Counts = make(map[Flaw]int)
	}
	v.Counts[flaw]++
	if v.Counts[flaw] <= examples {
		v.Examples = append(v.Examples, string(flaw)+": "+fmt.Sprintf(format, args...))
	}
}

// Check judges a history. It looks at nothing else, and the order of what was written counts for nothing: only that of the topics does.
func Check(h History) Verdict {
	var v Verdict
	checkEvents(&v, h)
	checkMarks(&v, h)
	checkViews(&v, h)
	for _, e := range h.Exits {
		if e.Excuse == "" {
			v.add(Halted, "relay %d ended by itself (cause %s): %s", e.Relay, cmp.Or(e.Cause, "none"), e.Last)
		}
	}
	if h.Undrained != "" {
		v.add(Undrained, "%s", h.Undrained)
	}
	return v
}

// place is a partition of a topic.
type place struct {
	topic     string
	partition int32
}

func (r *Record) place() place { return place{r.Topic, r.Partition} }

// String names the record for a person.
func (r *Record) String() string {
	return fmt.Sprintf("event %s of %s version %d (%s) at %s/%d offset %d", r.ID, r.Key, r.Version, r.Position, r.Topic, r.Partition, r.Offset)
}

// checkEvents compares the records with what was committed: each once, as it was written, and in order.
func checkEvents(v *Verdict, h History) {
	committed := make(map[string]*Event, len(h.Committed))
	for i := range h.Committed {
		committed[h.Committed[i].ID] = &h.Committed[i]
	}
	found := make(map[string]*Record, len(h.Records))
	order := newOrder()
	for i := range h.Records {
		r := &h.Records[i]
		e := committed[r.ID]
		if e == nil {
			v.add(Phantom, "%s", r)
			continue
		}
		if first := found[r.ID]; first != nil {
			v.add(Duplicated, "%s, and before at offset %d", r, first.Offset)
			continue // where it stands again says nothing of the order
		}
		found[r.ID] = r
		if r.Topic != e.Topic || r.Key != e.Key || r.Version != e.Version || r.Sum != e.Sum {
			v.add(Altered, "%s, written as version %d of %s to %s", r, e.Version, e.Key, e.Topic)
		}
		order.check(v, r, e)
	}
	for i := range h.Committed {
		if e := &h.Committed[i]; found[e.ID] == nil {
			v.add(Lost, "event %s, version %d of %s", e.ID, e.Version, e.Key)
		}
	}
}

// order is how far each aggregate and each partition has come.
type order struct {
	versions map[string]*Record
	places   map[place]*Record
}

func newOrder() order {
	return order{versions: make(map[string]*Record), places: make(map[place]*Record)}
}

// check says that the record stands behind one that it should stand before. Versions rise by one: where one is missing, it is lost or comes later, and
// then it is the one that is out of order.
func (o order) check(v *Verdict, r *Record, e *Event) {
	before, last := o.versions[e.Key], o.places[r.place()]
	switch {
	case before != nil && before.place() != r.place():
		v.add(Reordered, "%s, and another event of the aggregate in partition %d", r, before.Partition)
	case before != nil && before.Version >= e.Version:
		v.add(Reordered, "%s, behind version %d", r, before.Version)
	case last != nil && last.Position.Compare(r.Position) >= 0:
		v.add(Reordered, "%s, behind position %s", r, last.Position)
	default:
		o.versions[e.Key], o.places[r.place()] = r, r
	}
}

// checkMarks holds the watermarks against the events: every transaction has exactly one, which is the place of its last event, and they rise.
func checkMarks(v *Verdict, h History) {
	events := make(map[Txn][]*Record)
	var highest *Record
	for i := range h.Records {
		r := &h.Records[i]
		events[r.Txn] = append(events[r.Txn], r)
		if highest == nil || r.Position.Compare(highest.Position) > 0 {
			highest = r
		}
	}
	var last Mark
	for i := range h.Marks {
		m := &h.Marks[i]
		checkTransaction(v, m, last, events[m.Txn])
		delete(events, m.Txn)
		if m.Position.Compare(last.Position) < 0 || m.End < last.End {
			v.add(Torn, "watermark %s end %s at offset %d stands behind %s end %s", m.Position, m.End, m.Offset, last.Position, last.End)
		}
		last = *m
	}
	for _, txn := range slices.SortedFunc(maps.Keys(events), compareTxn) {
		v.add(Torn, "%s and %d more have no watermark in their transaction", events[txn][0], len(events[txn])-1)
	}
	if highest != nil && highest.Position.Compare(last.Position) > 0 {
		v.add(Torn, "%s is above the watermark %s", highest, last.Position)
	}
}

// checkTransaction holds a watermark against the events of its transaction, which are above the one before and up to this one.
func checkTransaction(v *Verdict, m *Mark, last Mark, events []*Record) {
	top := last.Position
	for _, r := range events {
		if r.Position.Compare(last.Position) <= 0 {
			v.add(Torn, "%s is not above the watermark before its transaction, %s", r, last.Position)
		}
		if r.Position.Compare(top) > 0 {
			top = r.Position
		}
	}
	if m.Position != top {
		v.add(Torn, "watermark %s at offset %d, and the last event of its transaction is at %s", m.Position, m.Offset, top)
	}
}

func compareTxn(a, b Txn) int {
	return cmp.Or(cmp.Compare(a.Producer, b.Producer), cmp.Compare(a.Epoch, b.Epoch))
}

// spot is where a record is.
type spot struct {
	place
	offset int64
}

func (r *Record) spot() spot { return spot{r.place(), r.Offset} }

// checkViews compares what was read in other ways with the final view: who reads committed records along sees just those, and who reads everything sees
// more only in transactions that were aborted.
func checkViews(v *Verdict, h History) {
	final := make(map[spot]*Record, len(h.Records))
	for i := range h.Records {
		final[h.Records[i].spot()] = &h.Records[i]
	}
	reached := make(map[place]int64)
	seen := make(map[spot]bool, len(h.Seen))
	for i := range h.Seen {
		r := &h.Seen[i]
		if now := final[r.spot()]; now == nil || now.ID != r.ID {
			v.add(Unstable, "%s was seen, and is not there in the end", r)
		}
		if at, ok := reached[r.place()]; ok && r.Offset <= at {
			v.add(Unstable, "%s was seen after offset %d", r, at)
		}
		reached[r.place()], seen[r.spot()] = r.Offset, true
	}
	for i := range h.Records {
		r := &h.Records[i]
		if !seen[r.spot()] {
			v.add(Unstable, "%s never came to the consumer that read along", r)
		}
	}
	all := make(map[spot]bool, len(h.All))
	for i := range h.All {
		r := &h.All[i]
		all[r.spot()] = true
		if visible := final[r.spot()] != nil; visible == r.Aborted {
			v.add(Unstable, "%s: visible %v, and its transaction was aborted %v", r, visible, r.Aborted)
		}
	}
	for i := range h.Records {
		if r := &h.Records[i]; !all[r.spot()] {
			v.add(Unstable, "%s is only there for who reads committed records", r)
		}
	}
}
