package kafkasink_test

import (
	"context"
	"encoding/json"
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

// limit sets max.message.bytes of the topic things.
func limit(t *testing.T, c *kafkatest.Cluster, bytes int) {
	t.Helper()
	limitOf(t, c, "things", bytes)
}

func limitOf(t *testing.T, c *kafkatest.Cluster, topic string, bytes int) {
	t.Helper()
	text := fmt.Sprint(bytes)
	_, err := kadm.NewClient(c.Client(t)).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &text}}, topic)
	if err != nil {
		t.Fatal(err)
	}
}

// sized are n events of about so many bytes.
func sized(n, bytes int) []relay.Event {
	all := make([]relay.Event, n)
	for i := range all {
		all[i] = event(i, fmt.Sprint("key", i%10), fmt.Sprint(i, " ", strings.Repeat("x", bytes)))
	}
	return all
}

// publishRest publishes the events behind the watermark as the engine does.
func publishRest(t *testing.T, p *opened, all []relay.Event) error {
	t.Helper()
	for len(all) > 0 && all[0].Position.Compare(p.mark.Position) <= 0 {
		all = all[1:]
	}
	if len(all) == 0 {
		return nil
	}
	return p.put(t, all...)
}

// session opens a publisher and closes it when it has published, or not.
func session(t *testing.T, sink *kafkasink.Sink, o relay.Origin, all []relay.Event) error {
	t.Helper()
	p := mustOpen(t, sink, o)
	defer func() { _ = p.Close() }()
	return publishRest(t, p, all)
}

func TestABacklogDoesNotHaltWhereATopicTakesSmallBatchesOnly(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		limit(t, c, 10_000)
		all := sized(100, 500)
		if err := session(t, newSink(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery}), fresh, all); err != nil {
			t.Fatalf("Publish = %v, want no error", err)
		}
		wantValues(t, c, all)
	})
}

func TestATopicMayTakeMoreThanTheClientsOwnLimit(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		limit(t, c, 3_000_000)
		all := sized(2, 2_500_000)
		if err := session(t, newSink(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery}), fresh, all); err != nil {
			t.Fatalf("Publish = %.300s, want no error", err.Error())
		}
		wantValues(t, c, all)
	})
}

// The settings may not be read, or were changed since: the client sends batches that the topic does not take.
func TestABatchThatIsRefusedIsSentOneByOne(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		for name, unknown := range map[string]bool{"settings that may not be read": true, "settings that were changed": false} {
			t.Run(delivery.String()+", "+name, func(t *testing.T) {
				t.Parallel()
				c := cluster(t)
				if unknown {
					c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "things", Err: kerr.TopicAuthorizationFailed, Count: -1})
				}
				sink := newSink(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery})
				p := mustOpen(t, sink, fresh)
				all := sized(1000, 500)
				if err := publishRest(t, p, all[:1]); err != nil {
					t.Fatal(err)
				}
				limit(t, c, 10_000)
				err := publishRest(t, p, all[1:])
				var halt *relay.HaltError
				if err == nil || errors.As(err, &halt) {
					t.Fatalf("Publish of more than the topic takes at once = %v, want an error that passes", err)
				}
				_ = p.Close()
				if unknown { // or the settings tell
					if err := session(t, sink, used, all[1:]); err != nil {
						t.Fatalf("Publish after that = %v, want no error", err)
					}
					wantValues(t, c, all)
				}
				tooLarge := event(2000, "k", strings.Repeat("x", 11_000))
				err = session(t, sink, used, []relay.Event{event(1999, "other", ""), tooLarge, event(2001, "other", "")})
				if !errors.As(err, &halt) || halt.Cause != relay.EventTooLarge || !strings.Contains(err.Error(), "event-2000") {
					t.Errorf("Publish = %v, want a halt that names the event that is too large", err)
				}
			})
		}
	}
}

// Each costs the time of a request and its answer, and a transaction may not take long.
func TestEventsThatAreSentOneByOneTakeSeveralTransactions(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "things", Err: kerr.TopicAuthorizationFailed, Count: -1})
	limit(t, c, 10_000)
	sink := exactlyOnce(t, c.Brokers)
	all := sized(501, 500)
	if err := session(t, sink, fresh, all[:1]); err != nil {
		t.Fatal(err)
	}
	if err := session(t, sink, used, all[1:]); err == nil {
		t.Fatal("Publish of more than the topic takes at once = nil, want an error")
	}
	if err := session(t, sink, used, all[1:]); err != nil {
		t.Fatal(err)
	}
	type mark struct {
		Commit string `json:"commit_lsn"`
		ID     string `json:"event_id"`
		End    string `json:"end_lsn"`
	}
	at := func(n int) mark { return mark{all[n].Position.Commit.String(), all[n].ID(), markAt(0).End.String()} }
	want := []mark{{"0/0", "", "0/32"}, at(0), at(200), at(400), at(500)}
	want[4].End = markAt(500).End.String()
	var got []mark
	for _, value := range committed(t, c.Brokers, watermarks) {
		var m mark
		if err := json.Unmarshal([]byte(value), &m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("watermarks (-want +got):\n%s", diff)
	}
	wantValues(t, c, all)
}

// A new timeline takes the end back to where it began.
func TestTheEndOfAWatermarkStaysWhereItWasTakenBackTo(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "things", Err: kerr.TopicAuthorizationFailed, Count: -1})
	limit(t, c, 10_000)
	sink := exactlyOnce(t, c.Brokers)
	p := mustOpen(t, sink, fresh)
	ahead := markAt(0)
	ahead.End = 100_000
	if err := p.Publish(t.Context(), []relay.Event{one(0)}, ahead); err != nil {
		t.Fatal(err)
	}
	all := sized(501, 500)
	back := relay.Watermark{Timeline: 2, Position: all[500].Position, EventID: all[500].ID(), End: 90}
	if err := mustOpen(t, sink, used).Publish(t.Context(), all[1:], back); err == nil {
		t.Fatal("Publish of more than the topic takes at once = nil, want an error")
	}
	if err := mustOpen(t, sink, used).Publish(t.Context(), all[1:], back); err != nil {
		t.Fatal(err)
	}
	for i, value := range committed(t, c.Brokers, watermarks)[2:] {
		if !strings.Contains(value, `"end_lsn":"0/5A"`) {
			t.Errorf("watermark %d behind the fork = %s, want it to end at 0/5A", i, value)
		}
	}
}

func TestARefusedBatchOfOneEventHaltsAtOnce(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "things", Err: kerr.TopicAuthorizationFailed, Count: -1})
		limit(t, c, 10_000)
		err := session(t, newSink(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery}), fresh, sized(1, 11_000))
		var halt *relay.HaltError
		if !errors.As(err, &halt) || halt.Cause != relay.EventTooLarge || !strings.Contains(halt.Hint, "max.message.bytes") {
			t.Errorf("Publish = %v, want a halt that says what to raise", err)
		}
	})
}

func TestACompressedBatchIsMeasuredByTheBroker(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		limit(t, c, 10_000)
		sink := newSink(t, kafkasink.Config{
			Brokers: c.Brokers, Delivery: delivery, ClientOptions: []kgo.Opt{kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerBatchMaxBytes(2_000_000)},
		})
		all := sized(1, 1_500_000)
		if err := session(t, sink, fresh, all); err != nil {
			t.Fatalf("Publish = %.300s, want no error", err.Error())
		}
		wantValues(t, c, all)
	})
}

func TestTheGuaranteeCannotBeGivenUpByAnOption(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]kgo.Opt{
		"DisableIdempotentWrite":             kgo.DisableIdempotentWrite(),
		"AllowIdempotentProduceCancellation": kgo.AllowIdempotentProduceCancellation(),
		"TransactionalID":                    kgo.TransactionalID("mine"),
	} {
		_, err := kafkasink.New(kafkasink.Config{Brokers: []string{"localhost"}, ClientOptions: []kgo.Opt{opt}})
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New with %s = %v, want an error that names it", name, err)
		}
	}
}

func TestRecordsAreRetriedWhateverTheOptionsSay(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery, ClientOptions: []kgo.Opt{kgo.RecordRetries(0), kgo.MaxBufferedBytes(1), kgo.MetadataMinAge(10 * time.Millisecond)}})
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotEnoughReplicas, Count: 3})
		if err := publish(t, p, events(10)); err != nil {
			t.Errorf("Publish = %v, want no error", err)
		}
	})
}

// The client refuses such a record before it is buffered, and a flush knows nothing of it.
func TestAnEventThatTheClientRefusesIsNotTakenForPublished(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		sink := newSink(t, kafkasink.Config{Brokers: cluster(t).Brokers, Delivery: delivery})
		nowhere := event(1, "k", "")
		nowhere.Record.Topic = ""
		if err := session(t, sink, fresh, []relay.Event{nowhere}); err == nil {
			t.Error("Publish of an event without a topic = nil, want an error")
		}
	})
}

// A broker that has forgotten the producer may have lost what it acknowledged: to go on as if nothing was is not for the client to decide.
func TestABrokerThatHasForgottenTheProducerEndsThePublisher(t *testing.T) {
	t.Parallel()
	for _, forgotten := range []*kerr.Error{kerr.UnknownProducerID, kerr.OutOfOrderSequenceNumber} {
		t.Run(forgotten.Message, func(t *testing.T) {
			t.Parallel()
			inEach(t, func(t *testing.T, delivery relay.Delivery) {
				c := cluster(t)
				p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery})
				if err := publish(t, p, events(10)); err != nil {
					t.Fatal(err)
				}
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: forgotten})
				var halt *relay.HaltError
				if err := publish(t, p, events(10)); !errors.Is(err, forgotten) || errors.As(err, &halt) {
					t.Errorf("Publish = %v, want %v", err, forgotten)
				}
			})
		})
	}
}

// wantValues checks that consumers of committed records see the events, each once.
func wantValues(t *testing.T, c *kafkatest.Cluster, all []relay.Event) {
	t.Helper()
	want, got := map[string]int{}, map[string]int{}
	for _, ev := range all {
		want[string(ev.Record.Value)]++
	}
	for _, value := range committed(t, c.Brokers, "things") {
		got[value]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%.2000s", diff)
	}
}

func TestHintsAreCommandsThatWork(t *testing.T) {
	t.Parallel()
	nowhere := event(7, "k", "")
	nowhere.Record.Topic = "nowhere"
	refuseCreate := func(c *kafkatest.Cluster) {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.TopicAuthorizationFailed, Count: -1})
	}
	refusePolicy := func(c *kafkatest.Cluster) {
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.PolicyViolation, Count: -1})
	}
	for name, tc := range map[string]struct {
		arrange func(*kafkatest.Cluster)
		creates bool
		event   relay.Event
		want    string // hint; empty: no error
	}{
		"a missing topic":                  {event: nowhere, want: "walpost topics create --topics nowhere, or start the relay with --create-topics"},
		"may not create a missing topic":   {refuseCreate, true, nowhere, "grant the relay's Kafka user Create on topic nowhere, or as a user who has it: walpost topics create --topics nowhere"},
		"may not create one that is there": {refuseCreate, true, event(7, "k", ""), ""},
		"a policy against it":              {refusePolicy, true, nowhere, "walpost topics create --topics nowhere, with the --partitions and --replication-factor that the brokers accept"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inEach(t, func(t *testing.T, delivery relay.Delivery) {
				c := cluster(t)
				p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery, CreateTopics: tc.creates})
				if tc.arrange != nil {
					tc.arrange(c)
				}
				err := publish(t, p, []relay.Event{tc.event})
				var halt *relay.HaltError
				switch {
				case tc.want == "" && err != nil:
					t.Errorf("Publish = %v, want no error", err)
				case tc.want != "" && (!errors.As(err, &halt) || halt.Hint != tc.want || halt.Cause != relay.TopicMissing):
					t.Errorf("Publish = %v, want a halt with the hint %q", err, tc.want)
				}
			})
		})
	}
}

func TestATopicThatCannotBeCreatedWhileBrokersAreAwayIsCreatedLater(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "later", Err: kerr.InvalidReplicationFactor, Count: 1})
		sink := newSink(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery, CreateTopics: true})
		later := event(7, "k", "")
		later.Record.Topic = "later"
		err := session(t, sink, fresh, []relay.Event{later})
		var halt *relay.HaltError
		if err == nil || errors.As(err, &halt) || !strings.Contains(err.Error(), "walpost topics create --topics later") {
			t.Errorf("Publish = %v, want an error that passes and names the command", err)
		}
		if err := session(t, sink, used, []relay.Event{later}); err != nil {
			t.Errorf("Publish when they are back = %v, want no error", err)
		}
	})
}

func TestATopicThatWasDeletedUnderARelayThatCreatesItIsNotCalledTheRelaysMistake(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		c := cluster(t)
		p := open(t, kafkasink.Config{Brokers: c.Brokers, Delivery: delivery, CreateTopics: true, ClientOptions: []kgo.Opt{kgo.MetadataMinAge(10 * time.Millisecond)}})
		if err := publish(t, p, events(10)); err != nil {
			t.Fatal(err)
		}
		if _, err := kadm.NewClient(c.Client(t)).DeleteTopic(context.WithoutCancel(t.Context()), "things"); err != nil {
			t.Fatal(err)
		}
		var halt *relay.HaltError
		if err := publish(t, p, events(10)); !errors.As(err, &halt) || strings.Contains(halt.Hint, "--create-topics") || !strings.Contains(halt.Hint, "who deleted it") {
			t.Errorf("Publish = %v, want a halt that asks who deleted it", err)
		}
	})
}
