package kafkasink_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/walpost/walpost/relay"
)

func TestRule2EventsAndWatermarkBecomeVisibleTogether(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers, kgo.RequestRetries(0)), fresh)
	if want := (relay.Watermark{Timeline: 1, End: 50}); p.mark != want {
		t.Errorf("first watermark = %+v, want %+v", p.mark, want)
	}
	p.mustPut(t, one(1), one(2))
	c.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut before the commit"), true })
	if err := p.put(t, one(3)); err == nil {
		t.Error("Publish whose commit never arrived = nil, want an error")
	}
	wantCommitted(t, c.Brokers, "1", "2")
	p = mustOpen(t, exactlyOnce(t, c.Brokers), used)
	if diff := cmp.Diff(markAt(2), p.mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
	p.mustPut(t, one(3))
	wantCommitted(t, c.Brokers, "1", "2", "3")
	if diff := cmp.Diff(markAt(3), mustOpen(t, exactlyOnce(t, c.Brokers), used).mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
}

func TestRule2ACommitOfUnknownOutcomeEndsThePublisherAndTheWatermarkTells(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	w := &wire{key: kmsg.EndTxn}
	p := mustOpen(t, exactlyOnce(t, c.Brokers, w.options()...), fresh)
	p.mustPut(t, one(1))
	w.deaf.Store(true)
	if err := p.put(t, one(2)); err == nil {
		t.Fatal("Publish whose commit was not acknowledged = nil, want an error")
	}
	if err := p.put(t, one(3)); err == nil || !strings.Contains(err.Error(), "publisher has ended") {
		t.Errorf("Publish after that = %v, want that the publisher has ended", err)
	}
	if diff := cmp.Diff(markAt(2), mustOpen(t, exactlyOnce(t, c.Brokers), used).mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
	wantCommitted(t, c.Brokers, "1", "2")
}

func TestRule2AnyFailedRecordVetoesTheCommit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault kfake.Fault
		event relay.Event
		cause relay.Cause // 0: passes
	}{
		"an event":               {fault: kfake.Fault{Topic: "things", Partitions: []int32{1}, Err: kerr.UnsupportedForMessageFormat}},
		"the watermark":          {fault: kfake.Fault{Topic: watermarks, Err: kerr.UnsupportedForMessageFormat}},
		"a batch too large":      {fault: kfake.Fault{Topic: "things", Partitions: []int32{1}, Err: kerr.MessageTooLarge}},
		"a topic not writable":   {fault: kfake.Fault{Topic: "things", Partitions: []int32{1}, Err: kerr.TopicAuthorizationFailed}, cause: relay.TopicMissing},
		"a watermark not wanted": {fault: kfake.Fault{Topic: watermarks, Err: kerr.TopicAuthorizationFailed}, cause: relay.WatermarkUnusable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
			p.mustPut(t, one(1))
			tc.fault.Keys = []kmsg.Key{kmsg.Produce}
			faults := c.Fault(tc.fault)
			log := observe(c)
			err := p.put(t, events(300)...)
			var halt *relay.HaltError
			if err == nil || errors.As(err, &halt) != (tc.cause != 0) || halt != nil && halt.Cause != tc.cause {
				t.Errorf("Publish = %v, want an error of cause %d", err, tc.cause)
			}
			if faults.Hits() == 0 {
				t.Fatal("no request was faulted")
			}
			for _, line := range log.take() {
				if strings.Contains(line, "commit true") {
					t.Errorf("broker was asked for the %s", line)
				}
			}
			if err := p.put(t, one(2)); err == nil {
				t.Error("Publish after that = nil, want an error")
			}
			faults.Remove()
			wantCommitted(t, c.Brokers, "1")
			if diff := cmp.Diff(markAt(1), mustOpen(t, exactlyOnce(t, c.Brokers), used).mark); diff != "" {
				t.Errorf("watermark (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnEventMayNotPassForAWatermark(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	forged := one(1)
	forged.Record.Topic = watermarks
	err := p.put(t, one(0), forged)
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != relay.Unpublishable || !strings.Contains(err.Error(), "event-1") {
		t.Errorf("Publish to the watermark topic = %v, want a halt that names the event", err)
	}
	wantCommitted(t, c.Brokers)
}

func TestRule3TheRingIsTakenOverInOrderBeforeTheWatermarkIsRead(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	log := observe(c)
	mustOpen(t, exactlyOnce(t, c.Brokers), used)
	want := []string{}
	for n := range 16 {
		want = append(want, fmt.Sprintf("take over relay/77/walpost/%d", n))
	}
	if diff := cmp.Diff(append(want, "fetch"), log.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// The older publisher is about to use member 3 while the newer one has taken over members 0 to 2.
func TestRule3WhatIsCommittedDuringATakeoverIsInTheWatermark(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	inTurn := exactlyOnce(t, c.Brokers)
	inTurn.SetRest(time.Hour)
	older := mustOpen(t, inTurn, fresh) // member 0
	older.mustPut(t, one(1))
	older.mustPut(t, one(2))
	var once sync.Once
	c.ControlKey(int16(kmsg.InitProducerID), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		if id := req.(*kmsg.InitProducerIDRequest).TransactionalID; id != nil && *id == "relay/77/walpost/3" {
			once.Do(func() {
				c.SleepControl(func() {
					if err := older.put(t, one(3)); err != nil {
						t.Errorf("Publish on a member that is not taken over = %v, want no error", err)
					}
				})
			})
		}
		return nil, nil, false
	})
	newer := mustOpen(t, exactlyOnce(t, c.Brokers), used)
	if diff := cmp.Diff(markAt(3), newer.mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
	if err := older.put(t, one(4)); err == nil || !strings.Contains(err.Error(), "newer relay owns the slot") {
		t.Errorf("Publish of the older publisher = %v, want that a newer relay owns the slot", err)
	}
	newer.mustPut(t, one(4))
	wantCommitted(t, c.Brokers, "1", "2", "3", "4")
}

func TestRule4TheRingIsUsedInTurnFromItsFirstMember(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rest, keep time.Duration
		used       int
	}{
		"when none has rested":            {time.Hour, 2 * time.Hour, 16},
		"or its first, when that has":     {0, time.Hour, 1},
		"but each before it is forgotten": {0, 0, 16},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
			sink := exactlyOnce(t, c.Brokers)
			sink.SetRest(tc.rest)
			sink.SetKeep(tc.keep)
			p := mustOpen(t, sink, used)
			log := observe(c)
			want := []string{}
			for n := range 35 {
				p.mustPut(t, one(n))
				member := fmt.Sprintf("relay/77/walpost/%d", n%tc.used)
				want = append(want, "produce by "+member, "end of "+member+", commit true")
			}
			got := slices.DeleteFunc(log.take(), func(line string) bool { return line == "fetch" }) // a late one of whoever has read the watermark
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRule4PublishWaitsForTheCommitAndThenForTheGap(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	arrived, release := make(chan struct{}), make(chan struct{})
	c.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.DropControl()
		c.SleepControl(func() { close(arrived); <-release })
		return nil, nil, false
	})
	done := make(chan error, 1)
	go func() { done <- p.Publish(t.Context(), []relay.Event{one(1)}, markAt(1)) }()
	<-arrived
	select {
	case err := <-done:
		t.Fatalf("Publish = %v before the broker had answered the commit", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatalf("Publish = %v, want no error", err)
	}
	const n = 50
	gap := p.Publisher.(relay.Spacer).Gap()
	began := time.Now()
	for i := range n {
		p.mustPut(t, one(2+i))
	}
	if took := time.Since(began); took < (n-1)*gap || gap <= 0 {
		t.Errorf("%d transactions took %v, want at least %v each", n, took, gap)
	}
}

// A transaction that is larger than a batch comes as several batches.
func TestATransactionMayBeSplitByItsIndex(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	part := func(index uint32) relay.Event {
		ev := one(1)
		ev.Position.Index, ev.Record.Value = index, fmt.Append(nil, index)
		return ev
	}
	inside := relay.Watermark{Timeline: 1, Position: part(1).Position, EventID: "event-1", End: 50} // nothing more to confirm
	if err := p.Publish(t.Context(), []relay.Event{part(0), part(1)}, inside); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(inside, mustOpen(t, exactlyOnce(t, c.Brokers), used).mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
}

func TestAPositionAloneIsATransactionToo(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	p.mustPut(t, one(1))
	idle := markAt(1)
	idle.End = 5000
	if err := p.Publish(t.Context(), nil, idle); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(idle, mustOpen(t, exactlyOnce(t, c.Brokers), used).mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
	if k, ok := p.Publisher.(relay.Keeper); !ok || k.IdleInterval() < time.Second {
		t.Error("the publisher does not ask for positions to be held back")
	}
}

func TestDeliveryIsOnlyCalledExactlyOnceWithTransactionVersion2(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		opts  []kfake.Opt
		level int16 // of the feature; zero: as it comes
		want  relay.Delivery
	}{
		"version 2":      {want: relay.ExactlyOnce},
		"version 1":      {level: 1, want: relay.Transactional},
		"an old cluster": {opts: []kfake.Opt{kfake.MaxVersions(kversion.V3_7_0())}, want: relay.Transactional},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t, tc.opts...)
			if tc.level != 0 {
				change := kadm.FeatureUpdate{Feature: "transaction.version", MaxVersionLevel: tc.level, UpgradeType: 3}
				if _, err := kadm.NewClient(c.Client(t)).UpdateFeatures(t.Context(), false, change); err != nil {
					t.Fatal(err)
				}
			}
			p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
			if got := p.Publisher.(relay.Keeper).Delivery(); got != tc.want {
				t.Errorf("Delivery() = %v, want %v", got, tc.want)
			}
			p.mustPut(t, one(1))
			wantCommitted(t, c.Brokers, "1")
		})
	}
}

func TestTheWatermarkIsReadableByPeople(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	p.mustPut(t, event(1, "21", "a"), event(2, "foobar", "b"), event(3, "a-little-bit-longer-string", "c"))
	p.mustPut(t, event(4, "21", "4"))
	all := committed(t, c.Brokers, watermarks)
	var got map[string]any
	if err := json.Unmarshal([]byte(all[len(all)-1]), &got); err != nil {
		t.Fatal(err)
	}
	offsets := []any{}
	for _, rec := range c.Records(t, "things", 4, patience) {
		for len(offsets) <= int(rec.Partition) {
			offsets = append(offsets, -1.0)
		}
		if rec.Value[0] >= 'a' { // of the first transaction: the second could not know its own
			offsets[rec.Partition] = max(offsets[rec.Partition].(float64), float64(rec.Offset))
		}
	}
	want := map[string]any{
		"timeline": 1.0, "commit_lsn": "0/68", "index": 1.0, "event_id": "event-4", "end_lsn": "0/69", "ring": 16.0,
		"offsets": map[string]any{"things": offsets},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
}
