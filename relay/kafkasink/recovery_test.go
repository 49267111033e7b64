package kafkasink_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
)

func TestTheWatermarkTopicIsMadeToKeepTheLastOfEachKey(t *testing.T) {
	t.Parallel()
	for brokers, want := range map[int]map[string]string{
		1: {"cleanup.policy": "compact", "min.insync.replicas": "1", "replicas": "1"},
		3: {"cleanup.policy": "compact", "min.insync.replicas": "2", "replicas": "3"},
	} {
		t.Run(fmt.Sprint(brokers, " brokers"), func(t *testing.T) {
			t.Parallel()
			c := cluster(t, kfake.NumBrokers(brokers))
			mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
			adm := kadm.NewClient(c.Client(t))
			configs, err := adm.DescribeTopicConfigs(t.Context(), watermarks)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for _, config := range configs[0].Configs {
				if want[config.Key] != "" {
					got[config.Key] = config.MaybeValue()
				}
			}
			topics, err := adm.ListTopics(t.Context(), watermarks)
			if err != nil {
				t.Fatal(err)
			}
			got["replicas"] = fmt.Sprint(topics[watermarks].Partitions.NumReplicas())
			if diff := cmp.Diff(want, got); diff != "" || len(topics[watermarks].Partitions) != 1 {
				t.Errorf("topic with %d partitions (-want +got):\n%s", len(topics[watermarks].Partitions), diff)
			}
		})
	}
}

// put writes a record to a topic, past any relay.
func put(t testing.TB, c *kafkatest.Cluster, rec *kgo.Record) {
	t.Helper()
	if err := c.Client(t).ProduceSync(t.Context(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func createWatermarks(t testing.TB, c *kafkatest.Cluster, policy string) {
	t.Helper()
	configs := map[string]*string{"cleanup.policy": &policy}
	if _, err := kadm.NewClient(c.Client(t)).CreateTopic(t.Context(), 1, 1, configs, watermarks); err != nil {
		t.Fatal(err)
	}
}

func TestWhatSpoilsTheWatermarkHalts(t *testing.T) {
	t.Parallel()
	begun := func(t *testing.T, c *kafkatest.Cluster) {
		p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
		p.mustPut(t, one(1))
		p.mustPut(t, one(2))
		_ = p.Close()
	}
	remove := func(topic string) func(*testing.T, *kafkatest.Cluster) {
		return func(t *testing.T, c *kafkatest.Cluster) {
			begun(t, c)
			if _, err := kadm.NewClient(c.Client(t)).DeleteTopic(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
		}
	}
	other := used
	other.SystemID = "78"
	for name, tc := range map[string]struct {
		arrange func(*testing.T, *kafkatest.Cluster)
		origin  relay.Origin
		cause   relay.Cause
		says    string
	}{
		"the topic is gone":                      {arrange: remove(watermarks), origin: used, cause: relay.WatermarkUnusable, says: "walpost slot adopt begins one"},
		"there is none for a slot that was used": {arrange: func(*testing.T, *kafkatest.Cluster) {}, origin: used, cause: relay.WatermarkUnusable, says: "through which events were read"},
		"it is another system's":                 {arrange: begun, origin: other, cause: relay.IdentityChanged, says: "of system 77"},
		"the topic forgets": {
			arrange: func(t *testing.T, c *kafkatest.Cluster) { createWatermarks(t, c, "compact,delete") }, origin: fresh,
			cause: relay.WatermarkUnusable, says: "cleanup.policy=compact of topic",
		},
		"the topic may not be created": {
			arrange: func(t *testing.T, c *kafkatest.Cluster) {
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.TopicAuthorizationFailed, Count: -1})
			}, origin: fresh, cause: relay.WatermarkUnusable, says: "create --topic outbox.relay.watermarks --partitions 1 --config cleanup.policy=compact; or start the relay with --delivery at-least-once",
		},
		"the topic may not be read": {
			arrange: func(t *testing.T, c *kafkatest.Cluster) {
				begun(t, c)
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed, Count: -1})
			}, origin: used, cause: relay.WatermarkUnusable, says: "grant the relay's Kafka user Read, Write, Describe and DescribeConfigs on topic outbox.relay.watermarks; or start",
		},
		"it was deleted": {
			arrange: func(t *testing.T, c *kafkatest.Cluster) {
				begun(t, c)
				put(t, c, &kgo.Record{Topic: watermarks, Key: []byte("77/walpost")})
			}, origin: used, cause: relay.WatermarkUnusable, says: "has no watermark",
		},
		"it is nonsense": {
			arrange: func(t *testing.T, c *kafkatest.Cluster) {
				begun(t, c)
				put(t, c, &kgo.Record{Topic: watermarks, Key: []byte("77/walpost"), Value: []byte("{}")})
			}, origin: used, cause: relay.WatermarkUnusable, says: "who else writes",
		},
		"it is of a later version": {
			arrange: func(t *testing.T, c *kafkatest.Cluster) {
				begun(t, c)
				put(t, c, &kgo.Record{Topic: watermarks, Key: []byte("77/walpost"), Value: []byte(
					`{"timeline":1,"commit_lsn":"0/1","index":0,"event_id":"a","end_lsn":"0/2","ring":32}`)})
			}, origin: used, cause: relay.WatermarkUnusable, says: "ring of 32",
		},
		"a topic is shorter than what was written": {
			arrange: func(t *testing.T, c *kafkatest.Cluster) { remove("things")(t, c); c.CreateTopic(t, "things", 3) },
			origin:  used, cause: relay.TopicTruncated, says: "ends at offset 0, and offset 0 was written",
		},
		"the transactional ids are refused": {
			arrange: func(t *testing.T, c *kafkatest.Cluster) {
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.TransactionalIDAuthorizationFailed, Count: -1})
			}, origin: fresh, cause: relay.WatermarkUnusable, says: "prefix relay/77/walpost/; or start",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := cluster(t)
			tc.arrange(t, c)
			_, err := openSink(t, exactlyOnce(t, c.Brokers), tc.origin)
			var halt *relay.HaltError
			if !errors.As(err, &halt) || halt.Cause != tc.cause || halt.Hint == "" || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Open = %v, want a halt of cause %v that says %q", err, tc.cause, tc.says)
			}
		})
	}
}

func TestATopicThatIsGoneIsForgotten(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	p.mustPut(t, one(1))
	p.mustPut(t, one(2))
	if _, err := kadm.NewClient(c.Client(t)).DeleteTopic(t.Context(), "things"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(markAt(2), mustOpen(t, exactlyOnce(t, c.Brokers), used).mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
}

func TestTheWatermarkTopicMayNotVanishWhileTheRelayRuns(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	p.mustPut(t, one(1))
	if _, err := kadm.NewClient(c.Client(t)).DeleteTopic(t.Context(), watermarks); err != nil {
		t.Fatal(err)
	}
	err := p.put(t, one(2))
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != relay.WatermarkUnusable {
		t.Errorf("Publish = %v, want a halt", err)
	}
	wantCommitted(t, c.Brokers, "1")
}

// open leaves a transaction of somebody else open behind the watermark.
func openForeign(t *testing.T, c *kafkatest.Cluster) *kgo.Client {
	t.Helper()
	foreign := c.Client(t, kgo.TransactionalID("foreign"))
	if err := foreign.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := foreign.ProduceSync(t.Context(), &kgo.Record{Topic: watermarks, Key: []byte("1/other"), Value: []byte("{}")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return foreign
}

func TestAForeignTransactionThatHidesTheWatermarkIsWaitedFor(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	p.mustPut(t, one(1))
	foreign := openForeign(t, c)
	p.mustPut(t, one(2)) // behind it
	asked := c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Observe: true, Count: -1})
	type result struct {
		w   relay.Watermark
		err error
	}
	opened := make(chan result, 1)
	go func() {
		next, w, err := exactlyOnce(t, c.Brokers).Open(t.Context(), used)
		if err == nil {
			_ = next.Close()
		}
		opened <- result{w, err}
	}()
	if err := asked.Wait(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-opened:
		t.Fatalf("Open = %+v, %v under an open transaction, want it to wait", r.w, r.err)
	default:
	}
	if err := foreign.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	select {
	case r := <-opened:
		if diff := cmp.Diff(markAt(2), r.w); diff != "" || r.err != nil {
			t.Errorf("Open = %v, watermark (-want +got):\n%s", r.err, diff)
		}
	case <-time.After(patience):
		t.Errorf("Open did not end within %v of the transaction", patience)
	}
}

func TestAForeignTransactionThatStaysOpenHalts(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	openForeign(t, c)
	p.mustPut(t, one(1))
	sink := exactlyOnce(t, c.Brokers)
	sink.SetRing(16, 200*time.Millisecond)
	_, err := openSink(t, sink, used)
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != relay.WatermarkUnusable || !strings.Contains(err.Error(), "find-hanging") {
		t.Errorf("Open = %v, want a halt that says how to find the transaction", err)
	}
}

// The last record of the topic is one that was aborted: it is never shown to a reader of committed records.
func TestTheWatermarkIsFoundBehindManyOthersAndBeforeAbortedOnes(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	p.mustPut(t, one(1))
	client := c.Client(t)
	for n := range 2500 {
		client.Produce(t.Context(), &kgo.Record{Topic: watermarks, Key: fmt.Append(nil, "1/other", n), Value: []byte("{}")}, nil)
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign := openForeign(t, c)
	if err := foreign.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(markAt(1), mustOpen(t, exactlyOnce(t, c.Brokers), used).mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
}

func TestSlotsAndSystemsHaveTheirOwnWatermarks(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	begin, later := slotOf("second")
	other := fresh
	other.SystemID = "78"
	mustOpen(t, exactlyOnce(t, c.Brokers), fresh).mustPut(t, one(1))
	mustOpen(t, exactlyOnce(t, c.Brokers), begin).mustPut(t, one(2))
	mustOpen(t, exactlyOnce(t, c.Brokers), other).mustPut(t, one(3))
	if diff := cmp.Diff(markAt(1), mustOpen(t, exactlyOnce(t, c.Brokers), used).mark); diff != "" {
		t.Errorf("watermark of the first slot (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(markAt(2), mustOpen(t, exactlyOnce(t, c.Brokers), later).mark); diff != "" {
		t.Errorf("watermark of the second slot (-want +got):\n%s", diff)
	}
}

func TestAdoptBeginsAnewAndShutsOutWhoeverPublishes(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	sink := exactlyOnce(t, c.Brokers)
	if w, ok, err := sink.Watermark(t.Context(), used); err != nil || ok {
		t.Errorf("Watermark without a topic = %+v, %v, %v, want none and no error", w, ok, err)
	}
	moved := used
	moved.Timeline, moved.Confirmed = 2, 500
	older := mustOpen(t, sink, fresh)
	older.mustPut(t, one(1))
	if w, ok, err := sink.Watermark(t.Context(), used); err != nil || !ok || w != markAt(1) {
		t.Errorf("Watermark = %+v, %v, %v, want %+v", w, ok, err, markAt(1))
	}
	adopted := relay.Watermark{Timeline: 2, End: 500}
	if err := sink.Adopt(t.Context(), moved, adopted); err != nil {
		t.Fatalf("Adopt = %v, want no error", err)
	}
	waiting, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := older.Publish(waiting, []relay.Event{one(2)}, markAt(2)); err == nil || !strings.Contains(err.Error(), "is shut out") {
		t.Errorf("Publish by the publisher before = %v, want that it is shut out", err)
	}
	wantCommitted(t, c.Brokers, "1")
	if diff := cmp.Diff(adopted, mustOpen(t, sink, moved).mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
}

func TestTheWatermarkTopicMayHaveMorePartitions(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	compact := "compact"
	if _, err := kadm.NewClient(c.Client(t)).CreateTopic(t.Context(), 7, 1, map[string]*string{"cleanup.policy": &compact}, watermarks); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, exactlyOnce(t, c.Brokers), fresh).mustPut(t, one(1))
	if diff := cmp.Diff(markAt(1), mustOpen(t, exactlyOnce(t, c.Brokers), used).mark); diff != "" {
		t.Errorf("watermark (-want +got):\n%s", diff)
	}
}

func TestPublishThatIsStoppedBeforeItsCommitLeavesNothing(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := mustOpen(t, exactlyOnce(t, c.Brokers), fresh)
	ctx, cancel := context.WithCancel(t.Context())
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		cancel()
		return nil, nil, true // and no answer, ever
	})
	began := time.Now()
	if err := p.Publish(ctx, events(5), markAt(5)); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish = %v, want context.Canceled", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("Publish took %v to end with its context, want some 2 s", took)
	}
}

func TestExactlyOnceIsTheDefault(t *testing.T) {
	t.Parallel()
	p := open(t, kafkasink.Config{Brokers: cluster(t).Brokers})
	if keeper, ok := p.(relay.Keeper); !ok || keeper.Delivery() != relay.ExactlyOnce {
		t.Errorf("a Config without Delivery opens a %T, want one that delivers exactly once", p)
	}
}

func TestDeliveryIsOneOfTwo(t *testing.T) {
	t.Parallel()
	for _, d := range []relay.Delivery{relay.Transactional, 7} {
		if _, err := kafkasink.New(kafkasink.Config{Brokers: []string{"localhost"}, Delivery: d}); err == nil {
			t.Errorf("New with delivery %v = nil, want an error", d)
		}
	}
}

func FuzzWatermark(f *testing.F) {
	f.Add([]byte(`{"timeline":1,"commit_lsn":"0/68","index":1,"event_id":"event-4","end_lsn":"0/69","ring":16,"offsets":{"things":[1,-1]}}`))
	f.Add([]byte(`{"timeline":1,"commit_lsn":"0/0","index":0,"event_id":"","end_lsn":"FFFFFFFF/FFFFFFFF","ring":16}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, value []byte) {
		again, err := kafkasink.Recode(value)
		if err != nil {
			return
		}
		if twice, err := kafkasink.Recode(again); err != nil || string(twice) != string(again) {
			t.Errorf("Recode(%q) = %q, %v, want the same again", again, twice, err)
		}
	})
}
