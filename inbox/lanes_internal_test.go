package inbox

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"
)

// lanesModel is what a partition with its scheduler should be: a queue of offsets for each key, of which the heads of some are out.
type lanesModel struct {
	s       *scheduler
	p       *partition
	next    int64
	queues  map[string][]int64
	running map[string]*lane
	waiting map[string]*lane
	stopped bool
}

func modelKey(rec *kgo.Record) string {
	if rec.Key == nil {
		return "none"
	}
	return "key " + string(rec.Key)
}

func (m *lanesModel) add(t *rapid.T) {
	var records []*kgo.Record
	for range rapid.IntRange(1, 5).Draw(t, "records") {
		rec := &kgo.Record{Offset: m.next}
		if k := rapid.IntRange(-1, 3).Draw(t, "key"); k >= 0 {
			rec.Key = []byte(fmt.Sprint("abc"[:k])) // "" is a key
		}
		m.next++
		records = append(records, rec)
		if !m.stopped {
			m.queues[modelKey(rec)] = append(m.queues[modelKey(rec)], rec.Offset)
		}
	}
	ready, _, err := m.p.add(records, nil)
	if err != nil {
		t.Fatalf("add = %v", err)
	}
	m.s.push(m.p, ready)
}

// take is scheduler.take without the waiting.
func (m *lanesModel) take() *lane {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return m.s.next()
}

func (m *lanesModel) begin(t *rapid.T) {
	l := m.take()
	if l == nil {
		for key := range m.queues {
			if m.running[key] == nil && m.waiting[key] == nil && !m.stopped && m.s.free > 0 {
				t.Fatalf("nothing is ready, but the head of %s should be", key)
			}
		}
		return
	}
	_, it, ok := m.p.begin(context.Background(), l)
	if ok == m.stopped {
		t.Fatalf("begin = %t on a partition with stopped = %t", ok, m.stopped)
	}
	if !ok {
		m.s.release(l, neutral, false)
		return
	}
	key := modelKey(it.rec)
	if m.running[key] != nil || m.waiting[key] != nil {
		t.Fatalf("offset %d of %s began while another of that key was out", it.rec.Offset, key)
	}
	if want := m.queues[key][0]; it.rec.Offset != want {
		t.Fatalf("offset %d of %s began, want %d", it.rec.Offset, key, want)
	}
	m.running[key] = l
}

// end ends one that runs, in one of four ways.
func (m *lanesModel) end(t *rapid.T) {
	if len(m.running) == 0 {
		t.Skip("nothing runs")
	}
	key := rapid.SampledFrom(sortedKeys(m.running)).Draw(t, "key")
	l := m.running[key]
	delete(m.running, key)
	switch rapid.SampledFrom([]string{"settle", "settle", "wait", "again"}).Draw(t, "how") {
	case "settle":
		if m.queues[key] = m.queues[key][1:]; len(m.queues[key]) == 0 {
			delete(m.queues, key)
		}
		more, _ := m.p.settle(l)
		m.s.release(l, healthy, false)
		if more {
			m.s.push(m.p, []*lane{l})
		}
	case "wait":
		ok := m.p.suspend(l, time.Hour)
		m.s.release(l, healthy, false)
		if ok {
			m.waiting[key] = l
		}
	case "again":
		m.s.release(l, healthy, m.p.suspend(l, 0))
	}
}

func (m *lanesModel) timer(t *rapid.T) {
	if len(m.waiting) == 0 {
		t.Skip("nothing waits")
	}
	key := rapid.SampledFrom(sortedKeys(m.waiting)).Draw(t, "key")
	m.p.resume(m.waiting[key])
	delete(m.waiting, key)
}

// stop stops the partition; between that and its removal from the scheduler a worker may come with a lane that it took before.
func (m *lanesModel) stop(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "rarely") > 0 {
		t.Skip("not yet")
	}
	m.p.stop()
	m.stopped = true
	clear(m.waiting)
}

func (m *lanesModel) remove(t *rapid.T) {
	if !m.stopped {
		t.Skip("not stopped")
	}
	m.s.remove(m.p)
}

func (m *lanesModel) check(t *rapid.T) {
	want := m.next
	if m.stopped {
		want = m.p.tracker.end
	}
	for _, q := range m.queues {
		want = min(want, q[0])
	}
	if got, _, _ := m.p.tracker.frontier(); got != want {
		t.Fatalf("frontier = %d, want %d", got, want)
	}
	select {
	case <-m.p.idle:
		if !m.stopped || len(m.running) > 0 {
			t.Fatalf("idle with stopped = %t and %d running", m.stopped, len(m.running))
		}
	default:
		if m.stopped && len(m.running) == 0 {
			t.Fatal("stopped and nothing runs, but not idle")
		}
	}
	if got := m.s.free; got != 4-len(m.running) {
		t.Fatalf("%d workers are free, want %d", got, 4-len(m.running))
	}
}

func sortedKeys(m map[string]*lane) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// One message of a key at a time and in order, whatever fails, waits or is stopped; nothing is forgotten; nothing begins after a stop.
func TestLanesKeepTheOrderOfTheirKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &lanesModel{queues: map[string][]int64{}, running: map[string]*lane{}, waiting: map[string]*lane{}}
		m.s = newScheduler(4, RetryPolicy{}, func() {})
		m.p = newPartition("t", 0, 1, Window{Records: 1 << 30, Bytes: 1 << 30}, m.s.push)
		m.s.add(m.p)
		defer m.p.stop() // and its timers
		t.Repeat(map[string]func(*rapid.T){
			"add": m.add, "begin": m.begin, "begin more": m.begin, "end": m.end, "timer": m.timer, "stop": m.stop, "remove": m.remove, "": m.check,
		})
	})
}

func TestTheWindowClosesAtItsLimitAndOpensAtHalf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		window Window
	}{{"by records", Window{Records: 4, Bytes: 1 << 30}}, {"by bytes", Window{Records: 1 << 30, Bytes: 40}}} {
		p := newPartition("t", 0, 1, tc.window, nil)
		var lanes []*lane
		for i := range 5 {
			var filled bool
			lanes, filled, _ = p.add([]*kgo.Record{{Offset: int64(i), Key: []byte{byte(i)}, Value: make([]byte, 9)}}, lanes)
			if filled != (i == 3) {
				t.Errorf("%s: add of record %d: filled = %t", tc.name, i, filled)
			}
		}
		for i, at := range []int{4, 1, 2, 0, 3} { // the head, 0, holds the window although others are done
			if _, _, ok := p.begin(t.Context(), lanes[at]); !ok {
				t.Fatal("begin refused")
			}
			if _, freed := p.settle(lanes[at]); freed != (i == 3) {
				t.Errorf("%s: settle of record %d: freed = %t", tc.name, at, freed)
			}
		}
	}
}

func TestAnOffsetThatGoesBackIsAnError(t *testing.T) {
	t.Parallel()
	p := newPartition("t", 0, 1, Window{Records: 10, Bytes: 1 << 30}, nil)
	if _, _, err := p.add([]*kgo.Record{{Offset: 7}, {Offset: 7}}, nil); err == nil {
		t.Error("add = nil, want an error for an offset that came twice")
	}
}
