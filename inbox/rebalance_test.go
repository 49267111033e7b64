package inbox_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/inbox"
)

// blocker is a handler that waits on chosen messages.
type blocker struct {
	entered chan string   // values of messages that wait
	leave   chan struct{} // closed to let them go
	blocks  func(m *inbox.Message) bool
	deaf    bool // it does not listen to its context
}

func newBlocker(blocks func(*inbox.Message) bool) *blocker {
	return &blocker{entered: make(chan string, 1000), leave: make(chan struct{}), blocks: blocks}
}

func (b *blocker) handle(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
	if b.blocks(m) {
		b.entered <- string(m.Payload)
		done := ctx.Done()
		if b.deaf {
			done = nil
		}
		select {
		case <-b.leave:
		case <-done:
			return ctx.Err()
		}
		if b.deaf {
			ctx = context.WithoutCancel(ctx)
		}
	}
	return effect(ctx, tx, m)
}

// O2: a revoke commits the highest offset seen.
func TestARevokedPartitionCommitsItsFrontierAndTheNextOwnerGoesOnThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kafka.CreateTopic(t, "two", 2)
	for p := range int32(2) {
		w.publish(event{topic: "two", partition: p, key: "x", value: "0"}, event{topic: "two", partition: p, key: "stuck", value: "1"},
			event{topic: "two", partition: p, key: "y", value: "2"}, event{topic: "two", partition: p, key: "y", value: "3"})
	}
	b := newBlocker(func(m *inbox.Message) bool { return m.Key == "stuck" })
	first := w.start(func(c *inbox.Config) {
		c.Topics = []string{"two"}
		c.Drain = 300 * time.Millisecond
		c.Handlers[topic] = b.handle
	})
	first.awaitResults(inbox.Done, 6)
	second := w.start(func(c *inbox.Config) { c.Topics = []string{"two"} })
	second.awaitResults(inbox.Done, 1)
	moved := int32(-1)
	await(t, "the moved partition's end committed", func() bool {
		for p := range int32(2) {
			if w.committed("two", p) == 4 {
				moved = p
			}
		}
		return moved >= 0
	})
	await(t, "the other partition's frontier committed", func() bool { return w.committed("two", 1-moved) == 1 })
	if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 1, inbox.Duplicate: 2}, second.seen.all()); diff != "" {
		t.Errorf("results of the second owner, which begins at offset 1 (-want +got):\n%s", diff)
	}
	if n := first.seen.results(inbox.Cancelled); n != 1 {
		t.Errorf("the first owner reports %d cancelled, want 1", n)
	}
	close(b.leave)
	first.awaitResults(inbox.Done, 7)
	first.mustStop()
	second.mustStop()
	w.mustHaveEach(8)
}

// mustHaveEach checks that there are n effects, each once.
func (w *world) mustHaveEach(n int) {
	w.t.Helper()
	if got := w.count("(select distinct msg_id from effects) as x"); got != n {
		w.t.Errorf("%d messages have an effect, want %d", got, n)
	}
	if got := w.count("effects"); got != n {
		w.t.Errorf("%d effects, want %d, one for each message", got, n)
	}
}

// O3, R7: a handler outlasts the drain and finishes after its partition has another owner.
func TestAHandlerThatFinishesAfterTheRevocationChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"}, event{key: "a", value: "2"})
	b := newBlocker(func(m *inbox.Message) bool { return string(m.Payload) == "1" })
	b.deaf = true
	first := w.start(func(c *inbox.Config) {
		c.Drain = 100 * time.Millisecond
		c.Handlers[topic] = b.handle
	})
	receive(t, "the first owner's handler", b.entered)
	first.cancel() // it leaves the group; the handler goes on
	second := w.start(nil)
	await(t, "the second owner to wait for the first one's inbox row", func() bool {
		return w.count("pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into inbox%' and datname = current_database()") == 1
	})
	close(b.leave)
	second.awaitResults(inbox.Done, 1)
	await(t, "offset 2 committed", func() bool { return w.committed(topic, 0) == 2 })
	second.mustStop()
	if err := first.wait(); err == nil || !strings.Contains(err.Error(), "delivered again") {
		t.Errorf("Run = %v, want an error that says what was cut off", err)
	}
	if diff := cmp.Diff([]string{"a=1", "a=2"}, w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

// R1: a paused partition is lost, regained, and never resumed.
func TestAPartitionThatWasPausedIsReadAgainByItsNextOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kafka.CreateTopic(t, "two", 2)
	const each = 40
	for p := range int32(2) {
		for i := range each {
			w.publish(event{topic: "two", partition: p, key: fmt.Sprint(i), value: fmt.Sprint(p)})
		}
	}
	b := newBlocker(func(*inbox.Message) bool { return true })
	small := func(c *inbox.Config) {
		c.Topics = []string{"two"}
		c.Drain = 100 * time.Millisecond
		c.Window.Records = 10
		c.Handlers[topic] = b.handle
	}
	first := w.start(small)
	for p := range 2 {
		await(t, "a pause of each partition", func() bool { return first.seen.has(pauses, fmt.Sprintf("two/%d [window]", p)) })
	}
	second := w.start(small)
	await(t, "the first owner to give one partition up", func() bool { return first.seen.has(moves, "revoked 1") })
	await(t, "the second owner's pause", func() bool {
		return second.seen.has(pauses, "two/0 [window]") || second.seen.has(pauses, "two/1 [window]")
	})
	_ = second.stop() // its handlers were cut off
	close(b.leave)
	first.awaitResults(inbox.Done, 2*each)
	first.mustStop()
	w.mustHaveEach(2 * each)
}

// R5: one slow partition stalls all.
func TestAPartitionWhoseHandlersHangLeavesWorkersToTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kafka.CreateTopic(t, "two", 2)
	for i := range 100 {
		w.publish(event{topic: "two", partition: 0, key: fmt.Sprint(i), value: "slow"})
	}
	b := newBlocker(func(m *inbox.Message) bool { return m.Partition == 0 })
	m := w.start(func(c *inbox.Config) {
		c.Topics = []string{"two"}
		c.Concurrency = 8
		c.Handlers[topic] = b.handle
	})
	for range 6 {
		receive(t, "the slow partition to take all the workers it may have", b.entered)
	}
	for i := range 100 {
		w.publish(event{topic: "two", partition: 1, key: fmt.Sprint(i), value: "quick"})
	}
	m.awaitResults(inbox.Done, 100)
	close(b.leave)
	m.awaitResults(inbox.Done, 200)
	m.mustStop()
}

// R8: a shutdown counts as a failed attempt.
func TestRestartsDoNotUseUpAttempts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"})
	b := newBlocker(func(*inbox.Message) bool { return true })
	var mu sync.Mutex // protects attempts
	var attempts []int
	for range 6 {
		m := w.start(func(c *inbox.Config) {
			c.Drain = time.Millisecond
			c.Retry.Attempts = 2
			c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
				mu.Lock()
				attempts = append(attempts, m.Attempt)
				mu.Unlock()
				return b.handle(ctx, tx, m)
			}
		})
		receive(t, "the handler", b.entered)
		if err := m.stop(); err == nil {
			t.Error("Run = nil, want an error: the handler was cut off")
		}
		if diff := cmp.Diff(map[inbox.Result]int{inbox.Cancelled: 1}, m.seen.all()); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff([]int{1, 1, 1, 1, 1, 1}, attempts); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func TestADrainLetsRunningHandlersFinishAndStartsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"}, event{key: "a", value: "2"})
	b := newBlocker(func(*inbox.Message) bool { return true })
	m := w.start(func(c *inbox.Config) { c.Handlers[topic] = b.handle })
	receive(t, "the handler", b.entered)
	m.cancel()
	await(t, "the consumer to be unready", func() bool { return m.consumer.Ready() != nil })
	close(b.leave)
	if err := m.wait(); err != nil {
		t.Errorf("Run = %v, want a clean drain", err)
	}
	if got := w.committed(topic, 0); got != 1 {
		t.Errorf("committed offset = %d, want 1", got)
	}
	if diff := cmp.Diff([]string{"a=1"}, w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

// R9: a part of the consumer is dead, the process looks healthy.
func TestAPanicInAnyRoleEndsTheConsumer(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"reader", "worker", "committer", "assignment", "revocation"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.kafka.CreateTopic(t, "two", 2)
			for p := range int32(2) {
				w.publish(event{topic: "two", partition: p, key: "a", value: "1"}, event{topic: "two", partition: p, key: "b", value: "1"})
			}
			m := w.start(func(c *inbox.Config) {
				c.Topics = []string{"two"}
				c.Window.Records = 1
				c.Observer = panicker{role}
			})
			if role == "revocation" {
				m.awaitReady()
				w.start(func(c *inbox.Config) { c.Topics = []string{"two"} })
			}
			err := m.wait()
			if err == nil || !strings.Contains(err.Error(), role+" panicked: as told") {
				t.Errorf("Run = %v, want the panic of the %s", err, role)
			}
			if m.consumer.Ready() == nil {
				t.Error("Ready = nil after Run returned")
			}
		})
	}
}

type panicker struct{ role string }

func (p panicker) in(role string) {
	if p.role == role {
		panic("as told")
	}
}

func (p panicker) MessageResult(string, string, inbox.Result) { p.in("worker") }
func (p panicker) Lag([]inbox.Lag)                            { p.in("committer") }
func (p panicker) Paused(_ string, _ int32, reasons []string) {
	if len(reasons) > 0 {
		p.in("reader")
	}
}

func (p panicker) Rebalanced(kind inbox.Rebalance, _, _ int, _ time.Duration) {
	p.in(map[inbox.Rebalance]string{inbox.Assigned: "assignment", inbox.Revoked: "revocation"}[kind])
}

// O4: a commit rewinds the successor's. The first owner could not commit at the revocation, and may not make up for it later.
func TestAnOwnerThatCouldNotCommitAtTheRevocationDoesNotDoSoLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kafka.CreateTopic(t, "two", 2)
	for p := range int32(2) {
		w.publish(event{topic: "two", partition: p, key: "a", value: "1"}, event{topic: "two", partition: p, key: "a", value: "2"})
	}
	nobody := w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1})
	two := func(c *inbox.Config) { c.Topics = []string{"two"} }
	first := w.start(two)
	first.awaitResults(inbox.Done, 4)
	second := w.start(two)
	await(t, "the second owner's lag", func() bool { return len(second.seen.lag()) == 1 })
	moved := second.seen.lag()[0].Partition

	firstOwner := w.kafka.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1,
		When: func(req kmsg.Request) bool {
			return slices.ContainsFunc(req.(*kmsg.OffsetCommitRequest).Topics[0].Partitions, func(p kmsg.OffsetCommitRequestTopicPartition) bool {
				return p.Partition != moved
			})
		},
	})
	nobody.Remove()
	w.publish(event{topic: "two", partition: moved, key: "a", value: "3"})
	await(t, "the second owner's commit", func() bool { return w.committed("two", moved) == 3 })
	firstOwner.Remove()
	await(t, "the first owner's commit", func() bool { return w.committed("two", 1-moved) == 2 })
	if got := w.committed("two", moved); got != 3 {
		t.Errorf("committed offset of the second owner = %d after the first one's commit, want 3", got)
	}
	first.mustStop()
	second.mustStop()
	w.mustHaveEach(5)
}
