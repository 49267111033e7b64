package inbox_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/inbox"
)

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for _, tc := range []struct {
		name string
		edit func(*inbox.Config)
		want string
	}{
		{"the least there is", func(*inbox.Config) {}, ""},
		{"no brokers", func(c *inbox.Config) { c.Brokers = nil }, "Brokers is empty"},
		{"no group", func(c *inbox.Config) { c.Group = "" }, "Group is empty"},
		{"no topics", func(c *inbox.Config) { c.Topics = nil }, "Topics is empty"},
		{"an empty topic", func(c *inbox.Config) { c.Topics = []string{""} }, "empty name"},
		{"D3: dead letters that go round", func(c *inbox.Config) { c.DeadLetterTopic = "t" }, "for ever"},
		{"no handlers", func(c *inbox.Config) { c.Handlers = nil }, "Handlers is empty"},
		{"a nil handler", func(c *inbox.Config) { c.Handlers["x"] = nil }, `event type "x" is nil`},
		{"negative concurrency", func(c *inbox.Config) { c.Concurrency = -1 }, "Concurrency is -1"},
		{"negative attempts", func(c *inbox.Config) { c.Retry.Attempts = -1 }, "Retry.Attempts is -1"},
		{"a limit below the first wait", func(c *inbox.Config) { c.Retry.Max = time.Millisecond }, "below Retry.Min"},
		{"a negative drain", func(c *inbox.Config) { c.Drain = -1 }, "Drain is"},
		{"a negative handler timeout", func(c *inbox.Config) { c.HandlerTimeout = -1 }, "HandlerTimeout is"},
		{"a negative window", func(c *inbox.Config) { c.Window = inbox.Window{Records: -1, Bytes: -1} }, "Window.Records is -1"},
		{"an observer that observes nothing", func(c *inbox.Config) { c.Observer = struct{}{} }, "implements none"},
	} {
		cfg := inbox.Config{
			Brokers: []string{"127.0.0.1:1"}, Group: "g", Topics: []string{"t"},
			Handlers: map[string]inbox.TxHandler{"t": func(context.Context, pgx.Tx, *inbox.Message) error { return nil }},
		}
		tc.edit(&cfg)
		_, err := inbox.New(pool, cfg)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: New = %v, want an error with %q", tc.name, err, tc.want)
		}
	}
	if _, err := inbox.New(nil, inbox.Config{}); err == nil || strings.Count(err.Error(), "\n") < 3 {
		t.Errorf("New of nothing = %v, want all that is missing", err)
	}
}

func TestAConsumerRunsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(nil)
	m.awaitReady()
	if err := m.consumer.Run(t.Context()); err == nil {
		t.Error("the second Run = nil, want an error")
	}
	m.mustStop()
}

func TestAConsumerWhoseBrokerIsGoneStopsInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"})
	m := w.start(nil)
	m.awaitResults(inbox.Done, 1)
	w.awaitCommitted(0, 1)
	w.kafka.Close()
	if err := m.stop(); err != nil { // which also bounds the time
		t.Errorf("Run = %v, want nil: everything was committed", err)
	}
}

// The group is rebalancing and answers a member that joins when all others have joined: a minute or more.
func TestAConsumerThatIsJoiningStopsInTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	joining, answer := make(chan struct{}, 1), make(chan struct{})
	defer close(answer)
	w.kafka.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		w.kafka.SleepControl(func() {
			select {
			case joining <- struct{}{}:
			default:
			}
			<-answer
		})
		return nil, nil, false
	})
	m := w.start(nil)
	receive(t, "the consumer to join", joining)
	m.cancel()
	receive(t, "Run to return while the join is not answered", m.ended)
	if m.err != nil {
		t.Errorf("Run = %v, want nil", m.err)
	}
}

func TestAConsumerWaitsForATopicThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.start(func(c *inbox.Config) { c.Topics = []string{"late"} })
	await(t, "the consumer to ask for the topic", func() bool {
		return strings.Contains(m.log.String(), "UNKNOWN_TOPIC_OR_PARTITION") || m.consumer.Ready() == nil
	})
	w.kafka.CreateTopic(t, "late", 1)
	w.publish(event{topic: "late", key: "a", value: "1"})
	m.awaitResults(inbox.Done, 1)
	m.mustStop()
}
