package pgwal_test

import (
	"testing"

	"github.com/walpost/walpost/relay/pgwal"
)

func TestASlotIsFreshUntilSomethingWasReadThroughIt(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	if err := pgwal.CreateSlot(t.Context(), d.config()); err != nil {
		t.Fatal(err)
	}
	d.exec(t, insert("a"))
	src := d.source(t, nil)
	s := open(t, src)
	if !s.Origin().Fresh {
		t.Error("the origin of a slot that was just made is not fresh, with an event waiting")
	}
	read(t, s, 1)
	_ = s.Close()
	s = open(t, src)
	if !s.Origin().Fresh {
		t.Error("a slot that did not move is not fresh for the Source that read from it")
	}
	b, err := next(t, s)
	if err != nil {
		t.Fatal(err)
	}
	s.Confirm(b.End)
	_ = s.Close()
	eventually(t, "the slot to move", func() bool { return d.confirmed(t) >= b.End })
	if open(t, src).Origin().Fresh {
		t.Error("a slot that was confirmed is still fresh for its Source")
	}
}

func TestASlotThatWasReadFromIsNotFreshForAnother(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	s := open(t, d.source(t, nil)) // which makes the slot
	if !s.Origin().Fresh {
		t.Error("a slot that the Source made is not fresh")
	}
	d.exec(t, insert("a"))
	b, err := next(t, s)
	if err != nil {
		t.Fatal(err)
	}
	s.Confirm(b.End)
	_ = s.Close()
	eventually(t, "the slot to move", func() bool { return d.confirmed(t) >= b.End })
	if open(t, d.source(t, nil)).Origin().Fresh {
		t.Error("a slot that events were confirmed through is fresh")
	}
}
