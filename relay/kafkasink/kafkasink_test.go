package kafkasink_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
)

func TestRecordsAreTheEventsByteForByte(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		position bool
		want     []kgo.RecordHeader
	}{
		"alone": {want: []kgo.RecordHeader{{Key: "id", Value: []byte("event-1")}, {Key: "traceparent"}}},
		"with position headers": {position: true, want: []kgo.RecordHeader{
			{Key: "id", Value: []byte("event-1")},
			{Key: "traceparent"},
			{Key: "walpost_lsn", Value: []byte("0/65")},
			{Key: "walpost_index", Value: []byte("1")},
			{Key: "walpost_committed_at", Value: []byte("2026-11-23T20:00:00.000000Z")},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEach(t, func(t *testing.T, delivery relay.Delivery) {
				c := cluster(t)
				p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery, PositionHeaders: tc.position})
				tombstone := event(2, "k", "")
				tombstone.Record.Value = nil
				if err := publish(t, p, []relay.Event{event(1, "k", `{"b":1,"a":2,"b":3}`), tombstone}); err != nil {
					t.Fatalf("Publish = %v, want no error", err)
				}
				got := c.Records(t, "things", 2, patience)
				if string(got[0].Key) != "k" || string(got[0].Value) != `{"b":1,"a":2,"b":3}` {
					t.Errorf("record = %q: %q, want key and value as given", got[0].Key, got[0].Value)
				}
				if diff := cmp.Diff(tc.want, got[0].Headers); diff != "" {
					t.Errorf("headers (-want +got):\n%s", diff)
				}
				if got[1].Value != nil {
					t.Errorf("value of a tombstone = %q, want null", got[1].Value)
				}
			})
		})
	}
}

// The hashes are those of org.apache.kafka.common.utils.UtilsTest.testMurmur2, made positive as Java's partitioner makes them.
func TestKeysGoWhereJavaPutsThem(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		const partitions = 7
		c := kafkatest.Start(t, kfake.SeedTopics(partitions, "things"))
		p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery})
		hashes := map[string]int32{
			"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
			"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
		}
		var all []relay.Event
		for key := range hashes {
			all = append(all, event(0, key, ""))
		}
		if err := publish(t, p, all); err != nil {
			t.Fatalf("Publish = %v, want no error", err)
		}
		for _, rec := range c.Records(t, "things", len(all), patience) {
			if want := (hashes[string(rec.Key)] & 0x7fffffff) % partitions; rec.Partition != want {
				t.Errorf("partition of key %q = %d, want %d", rec.Key, rec.Partition, want)
			}
		}
	})
}

func TestAKeyKeepsItsOrderWhateverTheBrokerAnswers(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]kfake.Fault{
		"applied and answered too late": {Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 5},
		"the leader has moved":          {Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition},
		"replicas are missing":          {Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas},
		"replicas went missing":         {Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicasAfterAppend, Count: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEach(t, func(t *testing.T, delivery relay.Delivery) {
				c := cluster(t)
				p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery, ClientOptions: impatient()})
				faults := c.Fault(fault)
				all := events(500)
				for i := 0; i < len(all); i += 100 {
					if err := publish(t, p, all[i:i+100]); err != nil {
						t.Fatalf("Publish = %v, want no error", err)
					}
				}
				if faults.Hits() == 0 {
					t.Fatal("no request was faulted")
				}
				wantOnceInOrder(t, c, all)
			})
		})
	}
}

func TestACutConnectionIsMadeAgain(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery, ClientOptions: impatient()})
		cuts := 0
		c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			if cuts++; cuts%2 == 1 && cuts < 10 {
				c.KeepControl()
				return nil, errors.New("cut"), true
			}
			return nil, nil, false
		})
		all := events(500)
		for i := 0; i < len(all); i += 100 {
			if err := publish(t, p, all[i:i+100]); err != nil {
				t.Fatalf("Publish = %v, want no error", err)
			}
		}
		wantOnceInOrder(t, c, all)
	})
}

func TestWhatNoRetryMendsHalts(t *testing.T) {
	t.Parallel()
	refuse := func(err *kerr.Error) func(*kafkatest.Cluster) {
		return func(c *kafkatest.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "things", Err: err, Count: -1})
		}
	}
	missing := event(7, "k", "")
	missing.Record.Topic = "nowhere"
	for name, tc := range map[string]struct {
		arrange func(*kafkatest.Cluster)
		event   relay.Event
		cause   relay.Cause
		says    string
	}{
		"a topic that does not exist":             {event: missing, cause: relay.TopicMissing, says: "walpost topics create"},
		"a topic that may not be written":         {arrange: refuse(kerr.TopicAuthorizationFailed), event: event(7, "k", ""), cause: relay.TopicMissing, says: "Write"},
		"an event too large for the broker":       {arrange: refuse(kerr.MessageTooLarge), event: event(7, "k", ""), cause: relay.EventTooLarge, says: "max.message.bytes"},
		"an event too large for any batch":        {event: event(7, "k", strings.Repeat("x", 1_100_000)), cause: relay.EventTooLarge, says: "1100"},
		"a record that the topic's settings deny": {arrange: refuse(kerr.InvalidRecord), event: event(7, "k", ""), cause: relay.Unpublishable, says: "settings"},
		"a topic name that the broker refuses":    {arrange: refuse(kerr.InvalidTopicException), event: event(7, "k", ""), cause: relay.Unpublishable, says: "--topic"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEach(t, func(t *testing.T, delivery relay.Delivery) {
				c := cluster(t)
				p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery})
				if tc.arrange != nil {
					tc.arrange(c)
				}
				err := publish(t, p, []relay.Event{tc.event})
				var halt *relay.HaltError
				if !errors.As(err, &halt) || halt.Cause != tc.cause || halt.From != 107 {
					t.Fatalf("Publish = %v, want a halt of cause %v at LSN 0/6B", err, tc.cause)
				}
				for _, want := range []string{"event-7", tc.event.Record.Topic, tc.says} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("error %q does not say %q", err, want)
					}
				}
			})
		})
	}
}

func TestNothingOfABatchOvertakesAnEventThatIsTooLarge(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery})
		err := publish(t, p, []relay.Event{event(1, "k", "before"), event(2, "k", strings.Repeat("x", 1_100_000)), event(3, "k", "behind"), event(4, "other", "")})
		var halt *relay.HaltError
		if !errors.As(err, &halt) || !strings.Contains(err.Error(), "event-2") {
			t.Fatalf("Publish = %v, want a halt that names event-2", err)
		}
		for partition, end := range c.EndOffsets(t, "things") {
			if end != 0 {
				t.Errorf("partition %d has %d records, want none", partition, end)
			}
		}
	})
}

// The limit is the client's own: what it would take must not halt, and what it would refuse must be refused before anything is sent.
func TestTheLargestEventIsTheClientsLargest(t *testing.T) {
	t.Parallel()
	const limit = 5000
	c := cluster(t)
	p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: relay.AtLeastOnce, ClientOptions: []kgo.Opt{kgo.ProducerBatchMaxBytes(limit)}}) // which outlives a refusal
	if err := publish(t, p, events(1)); err != nil {                                                                                            // from here on the client knows the broker's version, and counts exactly
		t.Fatal(err)
	}
	taken := 0
	for size := limit - 200; size < limit; size++ {
		ev := event(1, "k", strings.Repeat("x", size))
		err := publish(t, p, []relay.Event{ev})
		if err == nil {
			taken++
			continue
		}
		if !strings.Contains(err.Error(), "the producer's limit is 5000") {
			t.Fatalf("Publish of %d bytes = %v, want our own refusal", size, err)
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.Brokers...), kgo.ProducerBatchMaxBytes(limit), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	want := 0
	for size := limit - 200; size < limit; size++ {
		ev := event(1, "k", strings.Repeat("x", size))
		headers := []kgo.RecordHeader{kgo.RecordHeader(ev.Record.Headers[0]), kgo.RecordHeader(ev.Record.Headers[1])}
		rec := &kgo.Record{Topic: "things", Key: ev.Record.Key, Value: ev.Record.Value, Headers: headers}
		if client.ProduceSync(t.Context(), rec).FirstErr() == nil {
			want++
		}
	}
	if taken != want || want == 0 {
		t.Errorf("of 200 sizes below the limit the sink takes %d, the client %d", taken, want)
	}
}

// At least once; exactly once has rule 2 for it.
func TestEveryFailedRecordVetoesTheBatch(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: relay.AtLeastOnce})
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Partitions: []int32{1}, Err: kerr.UnsupportedForMessageFormat})
	if err := publish(t, p, events(300)); err == nil || !errors.Is(err, kerr.UnsupportedForMessageFormat) {
		t.Errorf("Publish with one failing partition of three = %v, want its error", err)
	}
}

func TestMissingTopicsAreCreatedWhereAsked(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := kafkatest.Start(t)
		p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery, CreateTopics: true})
		for range 2 {
			if err := publish(t, p, events(10)); err != nil {
				t.Fatalf("Publish = %v, want no error", err)
			}
		}
		if got := c.Records(t, "things", 20, patience); len(got) != 20 {
			t.Errorf("topic holds %d records, want 20", len(got))
		}
	})
}

func TestPublishWaitsForTheAcknowledgement(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery})
		arrived, release := make(chan struct{}), make(chan struct{})
		c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			c.DropControl()
			c.SleepControl(func() { close(arrived); <-release })
			return nil, nil, false
		})
		done := make(chan error, 1)
		go func() { done <- p.Publish(t.Context(), events(1), markBehind(events(1))) }()
		<-arrived
		select {
		case err := <-done:
			t.Fatalf("Publish = %v before the broker answered", err)
		default:
		}
		close(release)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Publish = %v, want no error", err)
			}
		case <-time.After(patience):
			t.Errorf("Publish did not return within %v of the broker's answer", patience)
		}
	})
}

// At least once; exactly once aborts first: TestPublishThatIsStoppedBeforeItsCommitLeavesNothing.
func TestPublishEndsWithItsContext(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: relay.AtLeastOnce})
	ctx, cancel := context.WithCancel(t.Context())
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		cancel()
		return nil, nil, true // and no answer, ever
	})
	if err := p.Publish(ctx, events(5), relay.Watermark{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish = %v, want context.Canceled", err)
	}
}

func TestAnEmptyBatchIsFine(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		p := open(t, kafkasink.Config{Brokers: cluster(t).Brokers, Delivery: delivery})
		if err := publish(t, p, nil); err != nil {
			t.Errorf("Publish of nothing = %v, want no error", err)
		}
	})
}
