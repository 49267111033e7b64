package kafkasink_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
)

func TestATopicThatAppearsGetsItsEventsAgain(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			c, sink := burying(t, delivery, nil)
			late := func(n int) relay.Event {
				ev := one(n)
				ev.Record.Topic = "late"
				return ev
			}
			untilPublished(t, sink, []relay.Event{late(1), late(2)})
			p := mustOpen(t, sink, used)
			p.mustPut(t, late(3))
			if _, err := kadm.NewClient(c.Client(t)).CreateTopic(t.Context(), 1, 1, nil, "late"); err != nil {
				t.Fatal(err)
			}
			p.Publisher.(relay.DeadReporter).ReportDead(func(ev *relay.Event, why *relay.HaltError) {
				t.Errorf("event %s is dead although its topic is there: %v", ev.ID(), why)
			})
			p.mustPut(t, late(4), late(5))
			if n := len(lettersOf(t, c, 3)); n != 3 {
				t.Errorf("there are %d dead letters, want 3", n)
			}
			if n := sum(c.EndOffsets(t, "late")); n < 2 || delivery == relay.AtLeastOnce && n != 2 {
				t.Errorf("topic that was created holds %d records, want the 2 events behind that", n)
			}
		})
	}
}

func TestATopicThatCanBeCreatedAfterAllGetsItsEventsAgain(t *testing.T) {
	t.Parallel()
	c, sink := burying(t, relay.ExactlyOnce, func(cfg *kafkasink.Config) { cfg.CreateTopics = true })
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "nowhere", Err: kerr.InvalidTopicException})
	untilPublished(t, sink, []relay.Event{elsewhere(1)})
	if _, dead := untilPublished(t, sink, []relay.Event{elsewhere(2)}); len(dead) != 0 {
		t.Errorf("dead are %v after the topic could be created, want none", dead)
	}
}

// Where the limit of a topic may not be read, its events go on being sent one by one.
func TestWhatIsTooLargeAloneDoesNotMakeBatchesFit(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			c, sink := burying(t, delivery, nil)
			limit(t, c, 10_000)
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "things", Err: kerr.TopicAuthorizationFailed, Count: -1})
			all := append(sized(30, 500), event(30, "k", strings.Repeat("x", 20_000)))
			untilPublished(t, sink, all)
			more := sized(131, 500)[31:]
			if err := session(t, sink, used, more); err != nil {
				t.Errorf("Publish of a batch that is larger than the topic takes = %v, want no error", err)
			}
		})
	}
}

// What would send every event there, or hides what is wrong with the relay, is no cause for a dead letter.
func TestWhatIsNotTheEventsFaultHaltsAllTheSame(t *testing.T) {
	t.Parallel()
	refuse := func(err *kerr.Error) func(*testing.T, *kafkatest.Cluster) {
		return func(_ *testing.T, c *kafkatest.Cluster) {
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "things", Err: err, Count: -1})
		}
	}
	for name, tc := range map[string]struct {
		arrange func(*testing.T, *kafkatest.Cluster)
		change  func(*kafkasink.Config)
		event   relay.Event
		cause   relay.Cause
		says    string
	}{
		"a topic that may not be written": {arrange: refuse(kerr.TopicAuthorizationFailed), event: one(1), cause: relay.TopicMissing, says: "Write"},
		"a clock that is wrong":           {arrange: refuse(kerr.InvalidTimestamp), event: one(1), cause: relay.Unpublishable, says: "refuses the record"},
		"a limit that may not be read": {
			arrange: func(t *testing.T, c *kafkatest.Cluster) {
				limit(t, c, 3_000_000)
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "things", Err: kerr.TopicAuthorizationFailed, Count: -1})
			},
			event: sized(1, 1_200_000)[0], cause: relay.EventTooLarge, says: "grant the relay's Kafka user DescribeConfigs on topic things",
		},
		"no topic for dead letters":        {change: func(c *kafkasink.Config) { c.DeadLetterTopic = "gone" }, event: dead(1), cause: relay.TopicMissing, says: "topic gone does not exist"},
		"a dead letter without its place":  {change: func(c *kafkasink.Config) { c.DeadLetterTopic = "" }, event: dead(1), cause: relay.Unpublishable, says: "DeadLetterTopic"},
		"a dead letter too large as it is": {event: wide(1), cause: relay.EventTooLarge, says: "its dead letter"},
		"a topic that is gone although the relay creates topics": {
			arrange: refuse(kerr.UnknownTopicOrPartition), change: func(c *kafkasink.Config) { c.CreateTopics = true }, event: one(1),
			cause: relay.TopicMissing, says: "who deleted it",
		},
		"a topic that the relay may not create": {
			arrange: func(_ *testing.T, c *kafkatest.Cluster) {
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "nowhere", Err: kerr.TopicAuthorizationFailed, Count: -1})
			},
			change: func(c *kafkasink.Config) { c.CreateTopics = true }, event: elsewhere(1), cause: relay.TopicMissing, says: "Create",
		},
	} {
		for _, delivery := range deliveries {
			t.Run(name+", "+delivery.String(), func(t *testing.T) {
				t.Parallel()
				c, sink := burying(t, delivery, tc.change)
				if tc.arrange != nil {
					tc.arrange(t, c)
				}
				err := session(t, sink, fresh, []relay.Event{tc.event})
				var halt *relay.HaltError
				if !errors.As(err, &halt) || halt.Cause != tc.cause || halt.Hint == "" || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("Publish = %.500v, want a halt of cause %v that says %q", err, tc.cause, tc.says)
				}
			})
		}
	}
}

func dead(n int) relay.Event {
	ev := one(n)
	kill(&ev)
	return ev
}

func elsewhere(n int) relay.Event {
	ev := one(n)
	ev.Record.Topic = "nowhere"
	return ev
}

// wide has a key that no batch can hold.
func wide(n int) relay.Event {
	ev := one(n)
	ev.Record.Key = []byte(strings.Repeat("k", 1_100_000))
	return ev
}

func TestTheTopicOfDeadLettersIsCreatedWhereAsked(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			c, sink := burying(t, delivery, func(cfg *kafkasink.Config) { cfg.CreateTopics, cfg.DeadLetterTopic = true, "made" })
			untilPublished(t, sink, []relay.Event{one(1), dead(2)})
			if n := sum(c.EndOffsets(t, "made")); n == 0 {
				t.Error("the topic of dead letters is empty, want one")
			}
		})
	}
}

// Without an id of its own a dead event is known by its position: the watermark needs a name for it.
func TestADeadEventWithoutAnIDCanBeTheLastOfATransaction(t *testing.T) {
	t.Parallel()
	c, sink := burying(t, relay.ExactlyOnce, nil)
	nameless := dead(1)
	nameless.Record.Headers = nil
	p := mustOpen(t, sink, fresh)
	p.mustPut(t, nameless)
	if want := (relay.Watermark{Timeline: 1, Position: nameless.Position, EventID: "0/65#1", End: 102}); mustOpen(t, sink, used).mark != want {
		t.Errorf("watermark behind it is not %+v", want)
	}
	if got := lettersOf(t, c, 1)[0].Headers["x-dlq-id"]; got != "0/65#1" {
		t.Errorf("header x-dlq-id = %q, want its position", got)
	}
}

func TestADeadLetterTopicThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{"no topic", watermarks} {
		if _, err := kafkasink.New(kafkasink.Config{Brokers: []string{"localhost"}, DeadLetterTopic: topic}); err == nil || !strings.Contains(err.Error(), "DeadLetterTopic") {
			t.Errorf("New with DeadLetterTopic %q = %v, want an error that names it", topic, err)
		}
	}
}
