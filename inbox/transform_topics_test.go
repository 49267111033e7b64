package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/record"
)

func TestAMissingTopicIsWaitedForAndNotMade(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	to := func(c *inbox.TransformConfig) {
		c.Transform = func(_ context.Context, m *inbox.Message) ([]record.Record, error) {
			return []record.Record{{Topic: "later", Key: m.Record.Key, Value: m.Record.Value}}, nil
		}
	}
	f.publish(0, 20)
	x := f.start(to)
	await(t, "the log to say what to run", func() bool { return strings.Contains(x.log.String(), "walpost topics create --topics later") })
	if topics, err := f.admin.ListTopics(t.Context(), "later"); err != nil || topics.Has("later") {
		t.Fatalf("topic later: %v, %v, want none", topics, err)
	}
	for number, at := range f.committed() {
		if at > 0 {
			t.Errorf("offset %d of partition %d is committed", at, number)
		}
	}
	f.kafka.CreateTopic(t, "later", 1)
	f.awaitEnd()
	x.mustStop()
	if n := len(f.read("later")); n != 20 {
		t.Errorf("%d records, want 20", n)
	}
}

func TestAMissingTopicIsMadeWhereThatIsWanted(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 20)
	x := f.start(func(c *inbox.TransformConfig) {
		c.CreateTopics = true
		c.Transform = func(_ context.Context, m *inbox.Message) ([]record.Record, error) {
			return []record.Record{{Topic: "made." + string(m.Record.Key), Value: m.Record.Value}}, nil
		}
	})
	f.awaitEnd()
	x.mustStop()
	if n := len(f.read("made.k3")); n != 2 {
		t.Errorf("%d records in topic made.k3, want 2", n)
	}
}

// A refusal of a batch is not the fault of all records in it.
func TestARecordThatItsTopicRefusesIsBuriedAndItsNeighboursAreNot(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	small := map[string]*string{"max.message.bytes": kadm.StringPtr("2000")}
	if _, err := f.admin.CreateTopic(t.Context(), 1, 1, small, "small"); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		size := 100
		if i == 50 {
			size = 3000
		}
		f.produce(message(fmt.Sprint(i%3), noise(size)))
	}
	x := f.start(func(c *inbox.TransformConfig) {
		c.Transform = func(_ context.Context, m *inbox.Message) ([]record.Record, error) {
			return []record.Record{{Topic: "small", Key: m.Record.Key, Value: m.Record.Value}}, nil
		}
	})
	f.awaitEnd()
	x.mustStop()
	if n := len(f.read("small")); n != 99 {
		t.Errorf("%d records, want 99", n)
	}
	letters := f.read(deadLetters)
	if len(letters) != 1 || len(letters[0].Value) != 3000 || headers(letters[0])["x-dlq-code"] != "refused" {
		t.Errorf("%d dead letters, want the large message alone", len(letters))
	}
}

func TestADeadLetterOfATransformShrinksUntilItsTopicTakesIt(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	small := map[string]*string{"max.message.bytes": kadm.StringPtr("3000")}
	if _, err := f.admin.CreateTopic(t.Context(), 1, 1, small, "small.dlq"); err != nil {
		t.Fatal(err)
	}
	f.produce(message("k", noise(1800)), message("k", noise(100)))
	x := f.start(func(c *inbox.TransformConfig) {
		c.DeadLetterTopic = "small.dlq"
		c.Transform = func(context.Context, *inbox.Message) ([]record.Record, error) {
			return nil, inbox.Permanent(errors.New(strings.Repeat("m", 1000)), "test")
		}
	})
	f.awaitEnd()
	x.mustStop()
	letters := f.read("small.dlq")
	if len(letters) != 2 || headers(letters[0])["x-dlq-truncated"] != "message" || headers(letters[1])["x-dlq-truncated"] != "" {
		t.Errorf("dead letters %d, want two, of which the large one has lost its message", len(letters))
	}
}

func TestARecordThatWouldComeRoundIsBuried(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.produce(message("k", raw), message("k", "no topic"), message("k", ""), message("k", outA))
	x := f.start(func(c *inbox.TransformConfig) {
		c.Transform = func(_ context.Context, m *inbox.Message) ([]record.Record, error) {
			return []record.Record{{Topic: string(m.Record.Value)}}, nil
		}
	})
	f.awaitEnd()
	x.mustStop()
	var codes []string
	for _, l := range f.read(deadLetters) {
		codes = append(codes, headers(l)["x-dlq-code"])
	}
	if diff := cmp.Diff([]string{"loop", "invalid_topic", "invalid_topic"}, codes); diff != "" {
		t.Errorf("codes of the dead letters (-want +got):\n%s", diff)
	}
	if n := len(f.read(outA)); n != 1 {
		t.Errorf("%d records, want 1", n)
	}
}
