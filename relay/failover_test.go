package relay_test

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

// failover is a server of the test's own that can be lost in favour of a standby.
type failover struct {
	*whole
	srv *pgtest.Server
}

func newFailover(t *testing.T) failover {
	t.Helper()
	srv := pgtest.StartServer(t)
	return failover{newWhole(t, srv.Migrated(t)), srv}
}

// snapshot is what a standby will have received: everything up to now.
func (f failover) snapshot(t *testing.T) {
	t.Helper()
	f.srv.Stop(t)
	f.srv.Save(t)
	f.srv.Start(t)
	f.Reset() // its connections are gone
}

// promote loses the server, with whatever came behind the snapshot, and promotes its standby.
func (f failover) promote(t *testing.T) {
	t.Helper()
	f.srv.Stop(t)
	f.srv.Restore(t)
	f.srv.Promote(t)
	f.Reset()
}

// watermark is what Kafka keeps for the slot.
func (f failover) watermark(t *testing.T) relay.Watermark {
	t.Helper()
	origin, _, err := pgwal.ReadOrigin(t.Context(), pgwal.Config{URL: f.url, Slot: f.slot})
	if err != nil {
		t.Fatal(err)
	}
	w, ok, err := f.keepingSink(t).Watermark(t.Context(), origin)
	if err != nil || !ok {
		t.Fatalf("Watermark = %v, %v, want one", ok, err)
	}
	return w
}

func TestAPromotedStandbyThatHasAllThatWasPublishedIsGoneOnFrom(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		f := newFailover(t)
		f.delivery = delivery
		r := f.start(t)
		r.await(t, relay.StateStreaming)
		f.insertRange(t, 1, 50)
		f.wantAll(t, 50)
		f.srv.Stop(t)
		f.srv.Promote(t) // under a relay that runs
		f.Reset()
		r.await(t, relay.StateStreaming)
		f.insertRange(t, 51, 100)
		f.wantAll(t, 100)
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		f.srv.Stop(t)
		f.srv.Promote(t) // and before one that is started
		f.Reset()
		f.start(t).await(t, relay.StateStreaming)
		f.insertRange(t, 101, 150)
		topic := f.wantAll(t, 150)
		if delivery == relay.ExactlyOnce {
			f.committedOnce(t, 150)
			if w := f.watermark(t); w.Timeline != 3 {
				t.Errorf("watermark = %+v, want one of timeline 3", w)
			}
		}
		t.Logf("%d events, %d repeats", len(topic.ids), topic.repeats())
	})
}

func TestAPromotedStandbyThatLacksWhatWasPublishedHalts(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		f := newFailover(t)
		f.delivery = delivery
		r := f.start(t)
		r.await(t, relay.StateStreaming)
		f.insertRange(t, 1, 10)
		f.wantAll(t, 10)
		f.snapshot(t)
		r.await(t, relay.StateStreaming)
		f.insertRange(t, 11, 20)
		f.wantAll(t, 20) // of which the standby has ten
		lost := f.currentLSN(t)
		f.promote(t)
		r.await(t, relay.StateHalted)
		f.insertRange(t, 21, 30)
		f.wantFork(t, r.stop(), lost)
		f.wantAll(t, 20)
		if delivery == relay.AtLeastOnce {
			return // what nobody remembers cannot halt the next start
		}
		again := f.start(t)
		again.await(t, relay.StateHalted)
		f.wantFork(t, again.stop(), lost)
		f.committedOnce(t, 20)
		f.adopt(t)
		f.start(t).await(t, relay.StateStreaming)
		f.reader(t).until(t, 30) // ten of them of the lost server; those before the fork may come again, as the command says
	})
}

// wantFork checks the halt of a relay whose server was lost with events at up to lost.
func (f failover) wantFork(t *testing.T, err error, lost relay.LSN) {
	t.Helper()
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != relay.IdentityChanged || !strings.Contains(err.Error(), "left timeline 1 at") || halt.Hint == "" {
		t.Fatalf("Run = %v, want a halt of cause identity_changed with the fork", err)
	}
	if halt.From == 0 || halt.To <= halt.From || halt.To > lost {
		t.Errorf("stretch = %s to %s, want from the fork to what was published, below %s", halt.From, halt.To, lost)
	}
}

// The position of an idle outbox moves on with the server's log, which a standby may not have received. What is written there afterwards has lower positions.
func TestAPositionBehindTheForkWithoutEventsIsNoReasonToHalt(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	r := f.start(t)
	r.await(t, relay.StateStreaming)
	f.exec(t, "create table noise (t text)")
	f.insertRange(t, 1, 10)
	f.committedOnce(t, 10)
	f.snapshot(t)
	r.await(t, relay.StateStreaming)
	f.exec(t, "insert into noise select repeat('x', 1000) from generate_series(1, 20000)")
	noisy := f.currentLSN(t)
	eventually(t, "the slot behind the noise", func() bool { return f.confirmed(t) >= noisy })
	f.promote(t)
	r.await(t, relay.StateStreaming)
	f.insertRange(t, 11, 20)
	if now := f.currentLSN(t); now >= noisy {
		t.Fatalf("the new timeline stands at %s, behind %s: this test has tested nothing", now, noisy)
	}
	f.wantAll(t, 20)
	f.committedOnce(t, 20)
	if w := f.watermark(t); w.Timeline != 2 || w.End >= noisy {
		t.Errorf("watermark = %+v, want one of timeline 2 below %s", w, noisy)
	}
}

func TestAWatermarkHoldsOnALaterTimelineUpToItsFork(t *testing.T) {
	t.Parallel()
	o := relay.Origin{SystemID: "1", Timeline: 4, Slot: "orders", Confirmed: 10, Forks: []relay.Fork{{Timeline: 1, At: 100}, {Timeline: 2, At: 300}}}
	mark := func(timeline int32, commit, end relay.LSN) relay.Watermark {
		w := relay.Watermark{Timeline: timeline, Position: relay.Position{Commit: commit, Index: 3}, EventID: "a", End: end}
		if commit == 0 {
			w.Position, w.EventID = relay.Position{}, ""
		}
		return w
	}
	for name, tc := range map[string]struct {
		mark     relay.Watermark
		end      relay.LSN // that it has then; zero: it halts
		from, to relay.LSN
	}{
		"of the same timeline":                           {mark: mark(4, 900, 1000), end: 1000},
		"of no timeline":                                 {mark: mark(0, 900, 1000), end: 1000},
		"before the fork":                                {mark: mark(2, 290, 299), end: 299},
		"that ends at the fork":                          {mark: mark(2, 290, 300), end: 300},
		"of a transaction that is published in part":     {mark: mark(2, 290, 280), end: 280},
		"whose position alone lies behind the fork":      {mark: mark(2, 290, 900), end: 300},
		"before the fork of an older timeline":           {mark: mark(1, 90, 100), end: 100},
		"behind the fork of an older timeline":           {mark: mark(1, 290, 299), from: 100, to: 299},
		"of an event at the fork":                        {mark: mark(2, 300, 300), from: 300, to: 300},
		"of a part of a transaction behind the fork":     {mark: mark(2, 310, 290), from: 300, to: 310},
		"without an event, before the fork":              {mark: mark(2, 0, 300), end: 300},
		"without an event, behind the fork":              {mark: mark(2, 0, 301), from: 300, to: 301},
		"of a timeline that does not lead there":         {mark: mark(3, 50, 51), from: 51, to: 10},
		"of a timeline that comes later than the server": {mark: mark(5, 50, 51), from: 51, to: 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := o.CarryOver(tc.mark)
			var halt *relay.HaltError
			if tc.end == 0 {
				if !errors.As(err, &halt) || halt.Cause != relay.IdentityChanged || halt.From != tc.from || halt.To != tc.to || !strings.Contains(halt.Hint, "walpost slot adopt --slot orders") {
					t.Errorf("CarryOver = %v, want a halt of cause identity_changed from %s to %s", err, tc.from, tc.to)
				}
				return
			}
			want := tc.mark
			want.End = tc.end
			if want.Timeline != 0 {
				want.Timeline = 4
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("CarryOver = %v, watermark (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestARelayWithoutAWatermarkRemembersWhatItPublishedBeforeAFork(t *testing.T) {
	t.Parallel()
	ten := relay.Batch{Events: []relay.Event{event(10, 0)}, End: 12}
	twenty := relay.Batch{Events: []relay.Event{event(20, 0)}, End: 22}
	for name, tc := range map[string]struct {
		confirmed relay.LSN // before anything else
		batches   []relay.Batch
		refused   relay.LSN // the event that is published without an answer
		fork      relay.LSN
		halts     bool
	}{
		"all of it lies before the fork":               {confirmed: 5, batches: []relay.Batch{ten, twenty}, fork: 22},
		"some of it lies behind the fork":              {confirmed: 5, batches: []relay.Batch{ten, twenty}, fork: 20, halts: true},
		"some of it may have been published behind it": {confirmed: 5, batches: []relay.Batch{ten, twenty}, refused: 20, fork: 20, halts: true},
		"its position alone lies behind the fork":      {confirmed: 5, batches: []relay.Batch{ten, {End: 90}}, fork: 30},
		"it has published nothing":                     {confirmed: 5, batches: []relay.Batch{{End: 90}}, fork: 30},
		"others may have published behind the fork":    {confirmed: 31, batches: []relay.Batch{{End: 90}}, fork: 30, halts: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			s := &script{origin: relay.Origin{SystemID: "1", Timeline: 1, Slot: "s", Confirmed: tc.confirmed}}
			promote := func() {
				s.origin.Timeline, s.origin.Confirmed, s.origin.Forks = 2, 5, []relay.Fork{{Timeline: 1, At: tc.fork}}
			}
			s.open = func(attempt int) error {
				if attempt == 3 { // the third session would be no news
					cancel()
				}
				return nil
			}
			s.publish = func(_ context.Context, events []relay.Event) error {
				if len(events) > 0 && events[0].Position.Commit == tc.refused {
					promote()
					return errInjected
				}
				return nil
			}
			s.next = func(call int) (relay.Batch, error) {
				if call <= len(tc.batches) {
					return tc.batches[call-1], nil
				}
				promote()
				return relay.Batch{}, errInjected
			}
			err := newRelay(t, s, relay.Config{BackoffMin: time.Nanosecond, BackoffMax: time.Nanosecond}).Run(ctx)
			var halt *relay.HaltError
			if errors.As(err, &halt) != tc.halts || err != nil && (halt.Cause != relay.IdentityChanged || !strings.Contains(halt.Hint, "start the relay again")) {
				t.Errorf("Run = %v, want a halt of cause identity_changed: %v", err, tc.halts)
			}
		})
	}
}

// In other hands a slot may get beyond a fork, too.
func TestATimelineThatCameWhileAnotherRelayHadTheSlotIsItsMatter(t *testing.T) {
	t.Parallel()
	s := movedSlot(func(o *relay.Origin) { o.Timeline, o.Confirmed, o.Forks = 2, 100, []relay.Fork{{Timeline: 1, At: 50}} })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.open = func(attempt int) error {
		switch attempt {
		case 2:
			return relay.ErrStandby
		case 4:
			cancel()
		}
		return nil
	}
	if err := newRelay(t, s, relay.Config{StandbyInterval: time.Nanosecond, BackoffMin: time.Nanosecond}).Run(ctx); err != nil {
		t.Errorf("Run = %v, want nil", err)
	}
}
