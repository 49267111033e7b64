package inbox_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/inbox"
)

// R2: the group has thrown the member out; what it was running is cut off, is no attempt, and is run again by whoever gets the partition.
func TestALostPartitionIsLetGoOfAtOnceAndAppliedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"}, event{key: "a", value: "2"})
	b := newBlocker(func(m *inbox.Message) bool { return string(m.Payload) == "1" })
	m := w.start(func(c *inbox.Config) {
		c.Drain = time.Hour // only the loss ends the handler
		c.Handlers[topic] = b.handle
	})
	receive(t, "the handler", b.entered)
	w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID, Count: 1})
	await(t, "the loss", func() bool { return m.seen.has(moves, "lost 1") })
	receive(t, "the handler of the next assignment", b.entered)
	if n := m.seen.results(inbox.Cancelled); n != 1 {
		t.Errorf("%d runs cancelled, want that of the lost partition", n)
	}
	close(b.leave)
	w.awaitCommitted(0, 2)
	m.mustStop()
	if diff := cmp.Diff([]string{"a=1", "a=2"}, w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if n := m.seen.results(inbox.Retried); n != 0 {
		t.Errorf("%d attempts failed, want none", n)
	}
}

// I11: a handler that has stopped listening keeps its transaction open, and with it the inbox row and vacuum's horizon.
func TestTheServerEndsTheSessionOfAHandlerThatListensToNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"})
	b := newBlocker(func(m *inbox.Message) bool { return m.Attempt == 1 })
	b.deaf = true
	m := w.start(func(c *inbox.Config) {
		c.HandlerTimeout = 500 * time.Millisecond
		c.Handlers[topic] = b.handle
	})
	receive(t, "the handler", b.entered)
	idle := func() int {
		return w.count("pg_stat_activity where state = 'idle in transaction' and query like 'insert into inbox%' and datname = current_database()")
	}
	if n := idle(); n != 1 {
		t.Fatalf("%d sessions idle in a transaction, want the handler's", n)
	}
	await(t, "the server to end the session", func() bool { return idle() == 0 })
	close(b.leave)
	m.awaitResults(inbox.Done, 1)
	w.awaitCommitted(0, 1)
	m.mustStop()
	if diff := cmp.Diff([]string{"a=1"}, w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

// R9: a worker that has vanished without an error or a panic.
func TestAHandlerThatEndsItsWorkerEndsTheConsumer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"})
	m := w.start(func(c *inbox.Config) {
		c.Handlers[topic] = func(context.Context, pgx.Tx, *inbox.Message) error {
			runtime.Goexit()
			return nil
		}
	})
	if err := m.wait(); err == nil || !strings.Contains(err.Error(), "worker was ended from inside") {
		t.Errorf("Run = %v, want the worker that is gone", err)
	}
	if n := w.count("inbox"); n != 0 {
		t.Errorf("inbox has %d rows, want none: the message was not applied", n)
	}
}

// R4: a member whose drain outlasts the group's rebalance timeout is thrown out, with all its partitions.
func TestARevocationLeavesTimeBeforeTheRebalanceTimeout(t *testing.T) {
	t.Parallel()
	const timeout = 9 * time.Second
	w := newWorld(t)
	w.kafka.CreateTopic(t, "two", 2)
	for p := range int32(2) {
		w.publish(event{topic: "two", partition: p, key: "a", value: "1"})
	}
	b := newBlocker(func(*inbox.Message) bool { return true })
	first := w.start(func(c *inbox.Config) {
		c.Topics = []string{"two"}
		c.Drain = time.Hour
		c.Handlers[topic] = b.handle
		c.ClientOptions = append(c.ClientOptions, kgo.RebalanceTimeout(timeout))
	})
	for range 2 {
		receive(t, "a handler of each partition", b.entered)
	}
	second := w.start(func(c *inbox.Config) { c.Topics = []string{"two"} })
	second.awaitResults(inbox.Done, 1)
	await(t, "the revocation", func() bool { return first.seen.has(moves, "revoked 1") })
	if took := first.seen.revocation(); took > timeout {
		t.Errorf("the revocation took %v, want less than the rebalance timeout of %v", took, timeout)
	}
	if first.seen.has(moves, "lost 1") {
		t.Error("the first owner was thrown out")
	}
	close(b.leave)
	first.awaitResults(inbox.Done, 1)
	first.mustStop()
	second.mustStop()
	w.mustHaveEach(2)
}

func (o *observer) revocation() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.revoked
}

// O8: without the leader epoch the next owner cannot tell that the log was truncated below its offset.
func TestACommitCarriesTheLeaderEpochOfTheRecordBelow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, kfake.NumBrokers(2))
	leader := w.kafka.LeaderFor(topic, 0)
	if err := w.kafka.MoveTopicPartition(topic, 0, 1-leader); err != nil {
		t.Fatal(err)
	}
	w.publish(event{key: "a", value: "1"})
	m := w.start(nil)
	w.awaitCommitted(0, 1)
	m.mustStop()
	ends, err := w.admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	offsets, err := w.admin.FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := offsets.Lookup(topic, 0)
	if got.LeaderEpoch != end.LeaderEpoch || end.LeaderEpoch < 1 {
		t.Errorf("leader epoch of the committed offset = %d, want the partition's, which is %d, above 0", got.LeaderEpoch, end.LeaderEpoch)
	}
}
