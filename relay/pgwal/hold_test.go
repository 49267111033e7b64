package pgwal_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

func TestLookingAtASlotLeavesItFreshAndReadingFromItDoesNot(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	if _, _, err := pgwal.ReadOrigin(t.Context(), d.config()); !errors.Is(err, pgwal.ErrNoSlot) {
		t.Errorf("ReadOrigin without a slot = %v, want ErrNoSlot", err)
	}
	if err := pgwal.CreateSlot(t.Context(), d.config()); err != nil {
		t.Fatal(err)
	}
	d.exec(t, insert("a"))
	d.exec(t, insert("b"))
	for range 2 {
		o, s, err := pgwal.ReadOrigin(t.Context(), d.config())
		if err != nil || !o.Fresh || o.Confirmed != d.confirmed(t) || s.Confirmed != o.Confirmed || o.Slot != d.slot || o.Timeline != 1 {
			t.Errorf("ReadOrigin = %+v, %+v, %v, want a fresh slot at %s on timeline 1", o, s, err, d.confirmed(t))
		}
	}
	before := d.confirmed(t)
	held, err := pgwal.PeekSlot(t.Context(), d.config())
	if err != nil || len(held) != 2 || held[0].Compare(held[1]) >= 0 || held[0].Commit < before {
		t.Errorf("PeekSlot = %v, %v, want the positions of two events behind %s", held, err, before)
	}
	if d.confirmed(t) != before {
		t.Error("PeekSlot has moved the slot")
	}
	seen, _, err := pgwal.ReadOrigin(t.Context(), d.config())
	if err != nil || seen.Fresh {
		t.Errorf("ReadOrigin of a slot that was read from = %+v, %v, want one that is not fresh", seen, err)
	}
	s := open(t, d.source(t, nil))
	if diff := cmp.Diff(seen, s.Origin()); diff != "" {
		t.Errorf("origin by ReadOrigin and of a stream (-want +got):\n%s", diff)
	}
	if _, err := pgwal.PeekSlot(t.Context(), d.config()); !errors.Is(err, relay.ErrStandby) {
		t.Errorf("PeekSlot of a slot in use = %v, want ErrStandby", err)
	}
}

func TestASlotThatIsHeldIsNobodyElsesAndDoesNotMove(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	if err := pgwal.CreateSlot(t.Context(), d.config()); err != nil {
		t.Fatal(err)
	}
	d.exec(t, insert("a"))
	before := d.confirmed(t)
	cfg := d.config()
	cfg.SenderTimeout = 200 * time.Millisecond // of a relay; holding outlasts it
	calls := 0
	err := pgwal.HoldSlot(t.Context(), cfg, func(o relay.Origin) error {
		calls++
		if o.Confirmed != before || o.Slot != d.slot || o.SystemID == "" || o.Timeline != 1 {
			t.Errorf("origin = %+v, want slot %s at %s on timeline 1", o, d.slot, before)
		}
		timer := time.NewTimer(time.Second)
		<-timer.C
		if _, err := d.source(t, nil).Open(t.Context()); !errors.Is(err, relay.ErrStandby) {
			t.Errorf("Open of a slot that is held = %v, want ErrStandby", err)
		}
		return errors.New("told so")
	})
	if err == nil || err.Error() != "told so" || calls != 1 {
		t.Errorf("HoldSlot = %v after %d calls, want the error of one", err, calls)
	}
	s := open(t, d.source(t, nil)) // at once
	if err := pgwal.HoldSlot(t.Context(), d.config(), func(relay.Origin) error { calls++; return nil }); !errors.Is(err, relay.ErrStandby) || calls != 1 {
		t.Errorf("HoldSlot of a slot in use = %v, want ErrStandby", err)
	}
	if s.Origin().Confirmed != before {
		t.Errorf("slot stands at %s, want %s where it stood", s.Origin().Confirmed, before)
	}
	read(t, s, 1)
}

// From PostgreSQL 16 a standby would send what it has, and go on under another timeline when it is promoted, without a word.
func TestAStandbyIsNotReadFromBeforeItIsPromoted(t *testing.T) {
	t.Parallel()
	srv := pgtest.StartServer(t)
	url := srv.Migrated(t)
	d := database{Pool: pgtest.Pool(t, url), url: url, slot: pgtest.SlotName(t)}
	src := d.source(t, nil)
	if err := open(t, src).Close(); err != nil {
		t.Fatal(err)
	}
	d.exec(t, insert("a"))
	srv.Stop(t)
	srv.StartStandby(t)
	d.Reset()                                                 // its connections are gone
	ctx, cancel := context.WithTimeout(t.Context(), patience) // a standby without a primary keeps whoever makes a slot waiting
	defer cancel()
	_, _, originErr := pgwal.ReadOrigin(ctx, d.config())
	for what, err := range map[string]error{
		"Prepare": src.Prepare(ctx), "ReadOrigin": originErr,
		"CreateSlot": pgwal.CreateSlot(ctx, pgwal.Config{URL: url, Slot: "another"}),
		"HoldSlot":   pgwal.HoldSlot(ctx, d.config(), func(relay.Origin) error { t.Error("the slot of a standby is held"); return nil }),
	} {
		var halt *relay.HaltError
		if err == nil || errors.As(err, &halt) || !strings.Contains(err.Error(), "is a standby") {
			t.Errorf("%s = %v, want a passing error that says why", what, err)
		}
	}
	if _, err := pgwal.ReadSlot(t.Context(), d.config()); err != nil {
		t.Errorf("ReadSlot = %v, want no error", err)
	}
	srv.PromoteStandby(t)
	read(t, open(t, src), 1)
}
