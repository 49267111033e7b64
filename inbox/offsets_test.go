package inbox_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/inbox"
)

// O5: aborted transactions and their markers at the end of the log.
func TestTheOffsetPassesAbortedTransactionsAndMarkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tx := w.kafka.Client(t, kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i, commit := range []bool{true, false, true, false} {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		e := event{id: newID(), key: "a", value: fmt.Sprint(i)}
		if err := tx.ProduceSync(t.Context(), e.record()).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := tx.EndTransaction(t.Context(), kgo.TransactionEndTry(commit)); err != nil {
			t.Fatal(err)
		}
	}
	end := w.kafka.EndOffsets(t, topic)[0]
	m := w.start(nil)
	w.awaitCommitted(0, end)
	await(t, "a lag of 0", func() bool {
		lags := m.seen.lag()
		return len(lags) == 1 && lags[0].Records == 0 && lags[0].Open == 0
	})
	m.mustStop()
	if diff := cmp.Diff([]string{"a=0", "a=2"}, w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

// O5: gaps that compaction left.
func TestTheOffsetPassesTheGapsOfATopicThatWasCompacted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	compact := map[string]*string{
		"cleanup.policy": kadm.StringPtr("compact"), "segment.bytes": kadm.StringPtr("300"), "min.cleanable.dirty.ratio": kadm.StringPtr("0"),
	}
	if _, err := w.admin.CreateTopic(t.Context(), 1, 1, compact, "compacted"); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		w.publish(event{topic: "compacted", key: fmt.Sprint(i % 3), value: fmt.Sprint(i)})
	}
	w.kafka.Compact()
	policy := kadm.AlterConfig{Op: kadm.SetConfig, Name: "cleanup.policy", Value: kadm.StringPtr("delete")} // as long as it is compacted it is refused
	if _, err := w.admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{policy}, "compacted"); err != nil {
		t.Fatal(err)
	}
	m := w.start(func(c *inbox.Config) { c.Topics = []string{"compacted"} })
	await(t, "offset 20 committed", func() bool { return w.committed("compacted", 0) == 20 })
	m.mustStop()
	if n := len(w.effects()); n == 20 || n < 3 {
		t.Errorf("%d effects: the topic was not compacted, or too much is missing", n)
	}
}

func TestACompactedTopicIsRefused(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*inbox.Config){
		"of events":       func(c *inbox.Config) { c.Topics = append(c.Topics, "compacted") },
		"of dead letters": func(c *inbox.Config) { c.DeadLetterTopic = "compacted" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			policy := map[string]*string{"cleanup.policy": kadm.StringPtr("compact,delete")}
			m := w.start(edit) // it has to look again: the topic comes later
			m.awaitReady()
			if _, err := w.admin.CreateTopic(t.Context(), 1, 1, policy, "compacted"); err != nil {
				t.Fatal(err)
			}
			if err := m.wait(); err == nil || !strings.Contains(err.Error(), "topic compacted has cleanup.policy compact,delete") {
				t.Errorf("Run = %v, want a refusal of the compacted topic", err)
			}
		})
	}
}

// O6: the offset is below the log's start, or above its end.
func TestAnOffsetOutsideTheLogStopsTheConsumerAndSaysSo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		offset int64
	}{{"retention passed it", 2}, {"the log was truncated", 50}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i := range 10 {
				w.publish(event{key: "a", value: fmt.Sprint(i)})
			}
			w.moveOffset(tc.offset)
			var deleted kadm.Offsets
			deleted.Add(kadm.Offset{Topic: topic, Partition: 0, At: 5})
			if _, err := w.admin.DeleteRecords(t.Context(), deleted); err != nil {
				t.Fatal(err)
			}
			m := w.start(nil)
			err := m.wait()
			if err == nil || !strings.Contains(err.Error(), "begins at 5") || !strings.Contains(err.Error(), "--reset-offsets") {
				t.Errorf("Run = %v, want an error with the log's start and what to run next", err)
			}
			if n := len(w.effects()); n != 0 {
				t.Errorf("%d effects, want 0", n)
			}
			if m.consumer.Ready() == nil {
				t.Error("Ready = nil after Run returned")
			}
		})
	}
}

// O9: an error of a commit kills or wedges the loop.
func TestACommitThatFailsIsRepeated(t *testing.T) {
	t.Parallel()
	for _, err := range []*kerr.Error{kerr.RebalanceInProgress, kerr.UnknownMemberID, kerr.RequestTimedOut, kerr.OffsetMetadataTooLarge} {
		t.Run(err.Message, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			fault := w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: err, Count: 2})
			w.publish(event{key: "a", value: "1"})
			m := w.start(nil)
			waiting, enough := context.WithTimeout(t.Context(), limit)
			defer enough()
			if err := fault.Wait(waiting, 2); err != nil {
				t.Fatalf("waited %v in vain for two commits that fail: %v", limit, err)
			}
			w.awaitCommitted(0, 1)
			w.publish(event{key: "a", value: "2"})
			m.awaitResults(inbox.Done, 2)
			w.awaitCommitted(0, 2)
			m.mustStop()
		})
	}
}

// O11: two topics with one key; no key; an empty key.
func TestOnlyMessagesOfOneTopicAndKeyShareALane(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kafka.CreateTopic(t, "other", 1)
	nokey := func(value string) event { return event{value: value, key: ""} }
	records := []event{{key: "k", value: "1"}, {key: "k", value: "1", topic: "other"}, nokey("empty"), nokey("null 1"), nokey("null 2")}
	for i := range records {
		records[i].id = newID()
		r := records[i].record()
		if strings.HasPrefix(records[i].value, "null") {
			r.Key = nil
		}
		w.produce(r)
	}
	entered := make(chan string, 8)
	leave := make(chan struct{})
	m := w.start(func(c *inbox.Config) {
		c.Topics = append(c.Topics, "other")
		c.Handlers[topic] = func(ctx context.Context, _ pgx.Tx, m *inbox.Message) error {
			entered <- m.Topic + " " + string(m.Payload)
			<-leave
			return nil
		}
	})
	got := map[string]bool{}
	for range 4 {
		got[receive(t, "four handlers at once", entered)] = true
	}
	want := map[string]bool{topic + " 1": true, "other 1": true, topic + " empty": true, topic + " null 1": true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("handlers that run at once (-want +got):\n%s", diff)
	}
	close(leave)
	if next := receive(t, "the second message without a key", entered); next != topic+" null 2" {
		t.Errorf("next = %q, want the second message without a key", next)
	}
	m.awaitResults(inbox.Done, 5)
	m.mustStop()
}

// A topic of the same name is not the same topic: its offsets mean other messages.
func TestATopicThatWasRecreatedStopsTheConsumer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"}, event{key: "a", value: "2"})
	m := w.start(nil)
	m.awaitResults(inbox.Done, 2)
	w.awaitCommitted(0, 2)
	if _, err := w.admin.DeleteTopics(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	w.kafka.CreateTopic(t, topic, 1)
	err := m.wait()
	if err == nil || !strings.Contains(err.Error(), "recreated") {
		t.Errorf("Run = %v, want an error that says that the topic was recreated", err)
	}
}
