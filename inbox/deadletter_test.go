package inbox_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/record"
)

// buries returns a Config edit whose handler gives every message up with the error.
func buries(err error) func(*inbox.Config) {
	return func(c *inbox.Config) {
		c.Handlers[topic] = func(context.Context, pgx.Tx, *inbox.Message) error { return inbox.Permanent(err, "test") }
	}
}

func headers(r *kgo.Record) map[string]string {
	got := make(map[string]string)
	for _, h := range r.Headers {
		if old, ok := got[h.Key]; ok {
			got[h.Key] = old + " AND "
		}
		got[h.Key] += string(h.Value)
	}
	return got
}

func TestADeadLetterIsTheOriginalWithItsReasons(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.kafka.CreateTopic(t, "wide", 5)
	id := newID()
	original := &kgo.Record{
		Topic: "wide", Partition: 4, Key: []byte{0, 0xff, 'k'}, Value: nil, Timestamp: time.UnixMilli(1_700_000_000_123),
		Headers: []kgo.RecordHeader{
			{Key: record.HeaderID, Value: []byte(id)},
			{Key: record.HeaderEventType, Value: []byte(topic)},
			{Key: "null", Value: nil},
			{Key: "binary", Value: []byte{0, 0xfe}},
			{Key: "twice", Value: []byte("1")},
			{Key: "twice", Value: []byte("2")},
			{Key: record.HeaderTraceParent, Value: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")},
			{Key: "__dlq.errors.message", Value: []byte("of a former life")},
			{Key: "x-dlq-stack", Value: []byte("of a former life")},
		},
	}
	w.produce(original)
	before := time.Now()
	m := w.start(func(c *inbox.Config) {
		buries(errors.New("bad \xff " + strings.Repeat("é", 1000)))(c)
		c.Topics = []string{"wide"}
	})
	m.awaitResults(inbox.Dead, 1)
	m.mustStop()

	letter := w.kafka.Records(t, deadLetters, 1, limit)[0]
	if !bytes.Equal(letter.Key, original.Key) || letter.Value != nil {
		t.Errorf("key, value = %q, %v, want %q and a tombstone", letter.Key, letter.Value, original.Key)
	}
	if letter.Partition != 4%3 {
		t.Errorf("partition = %d, want that of the original modulo 3, which is 1", letter.Partition)
	}
	if letter.Timestamp.Before(before.Add(-time.Second)) {
		t.Errorf("timestamp = %v, want the time of the burial", letter.Timestamp)
	}
	if diff := cmp.Diff(original.Headers[:7], letter.Headers[:7]); diff != "" {
		t.Errorf("original headers (-want +got):\n%s", diff)
	}
	got := headers(letter)
	for key, want := range map[string]string{
		"__dlq.errors.topic": "wide", "__dlq.errors.partition": "4", "__dlq.errors.offset": "0", "__dlq.errors.group": group,
		"__dlq.errors.delivery.count": "1", "__dlq.errors.message": "bad \uFFFD " + strings.Repeat("é", 508),
		"x-dlq-id": id, "x-dlq-code": "test", "x-dlq-class": "permanent", "x-dlq-handler": topic,
		"x-dlq-original-timestamp": "2023-11-14T22:13:20.123Z", "x-dlq-stack": "",
	} {
		if got[key] != want {
			t.Errorf("header %s = %q, want %q", key, got[key], want)
		}
	}
	if len(got["x-dlq-fingerprint"]) != 16 {
		t.Errorf("header x-dlq-fingerprint = %q, want 16 digits", got["x-dlq-fingerprint"])
	}
	for _, key := range []string{"x-dlq-first-failed-at", "x-dlq-failed-at"} {
		if at, err := time.Parse(time.RFC3339, got[key]); err != nil || at.Before(before) {
			t.Errorf("header %s = %q, want a time after %v", key, got[key], before)
		}
	}
}

func TestAMessageThatCannotBeDecodedIsBuriedWithoutItsHandler(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1", headers: []kgo.RecordHeader{{Key: record.HeaderHeaders, Value: []byte("{")}}}, event{key: "a", value: "2"})
	m := w.start(nil)
	m.awaitResults(inbox.Done, 1)
	m.mustStop()
	got := headers(w.kafka.Records(t, deadLetters, 1, limit)[0])
	if got["x-dlq-code"] != "undecodable" || got["__dlq.errors.delivery.count"] != "1" {
		t.Errorf("headers = %v, want code undecodable and delivery count 1", got)
	}
	if n := w.count("inbox"); n != 2 {
		t.Errorf("inbox has %d rows, want 2", n)
	}
}

// D2: the produce is not confirmed, the offset moves.
func TestTheOffsetWaitsForTheDeadLetterAndGoesOnWithoutARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fault := w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetters, Err: kerr.TopicAuthorizationFailed, Count: -1})
	w.publish(event{key: "bad", value: "1"}, event{key: "bad", value: "2"}, event{key: "good", value: "1"})
	m := w.start(func(c *inbox.Config) {
		c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			if string(m.Payload) == "1" && m.Key == "bad" {
				return inbox.Permanent(errors.New("no"), "test")
			}
			return effect(ctx, tx, m)
		}
	})
	m.awaitResults(inbox.Done, 1)
	m.awaitResults(inbox.Held, 3)
	if got := w.committed(topic, 0); got > 0 {
		t.Errorf("committed offset = %d while the dead letter of offset 0 is not acknowledged", got)
	}
	if diff := cmp.Diff([]string{"good=1"}, w.effects()); diff != "" {
		t.Errorf("effects, of which the dead head's key must have none (-want +got):\n%s", diff)
	}
	if n := w.count("inbox"); n != 1 {
		t.Errorf("inbox has %d rows, want 1: none before the acknowledgement", n)
	}
	fault.Remove()
	m.awaitResults(inbox.Dead, 1)
	w.awaitCommitted(0, 3)
	m.mustStop()
	if n := len(w.kafka.Records(t, deadLetters, 1, limit)); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// A redelivery of a message that was buried is a duplicate: it is neither run nor buried again.
func TestABuriedMessageIsNeitherRunNorBuriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	refused := event{key: "a", value: "1", id: newID()}
	undecodable := event{key: "b", value: "1", id: newID(), headers: []kgo.RecordHeader{{Key: record.HeaderHeaders, Value: []byte("{")}}}
	w.publish(refused, undecodable)
	first := w.start(buries(errors.New("no")))
	first.awaitResults(inbox.Dead, 2)
	first.mustStop()
	w.publish(refused, undecodable)
	second := w.start(nil)
	second.awaitResults(inbox.Duplicate, 2)
	w.awaitCommitted(0, 4)
	second.mustStop()
	if n := len(w.effects()); n != 0 {
		t.Errorf("%d effects, want 0", n)
	}
	if ends := w.kafka.EndOffsets(t, deadLetters); ends[0]+ends[1]+ends[2] != 2 {
		t.Errorf("ends of the dead-letter topic = %v, want two letters", ends)
	}
}

// D7: the record grows too large for the topic.
func TestADeadLetterThatIsTooLargeLosesItsStackAndThenItsMessage(t *testing.T) {
	t.Parallel()
	const most = 6000
	long := strings.Repeat("m", 1000)
	for _, tc := range []struct {
		name       string
		size       int
		panics     bool
		truncated  string
		hasMessage bool
	}{
		{"all fits", 1000, false, "", true},
		{"the stack does not fit", 4000, true, "stack", true},
		{"neither stack nor message fit", 4800, true, "stack,message", false},
		{"the message does not fit", 4800, false, "message", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			createSmallTopic(t, w, "small.dlq", most)
			value := noise(tc.size)
			w.publish(event{key: "a", value: value})
			m := w.start(func(c *inbox.Config) {
				c.DeadLetterTopic = "small.dlq"
				c.Retry.Attempts = 1
				c.ClientOptions = append(c.ClientOptions, kgo.ProducerBatchCompression(kgo.NoCompression()))
				c.Handlers[topic] = func(context.Context, pgx.Tx, *inbox.Message) error {
					if tc.panics {
						deep(40, long)
					}
					return errors.New(long)
				}
			})
			m.awaitResults(inbox.Dead, 1)
			m.mustStop()
			letter := w.kafka.Records(t, "small.dlq", 1, limit)[0]
			if string(letter.Value) != value {
				t.Error("the value is not the original's")
			}
			got := headers(letter)
			_, hasMessage := got["__dlq.errors.message"]
			if got["x-dlq-truncated"] != tc.truncated || hasMessage != tc.hasMessage {
				t.Errorf("x-dlq-truncated = %q, message %t, want %q, %t", got["x-dlq-truncated"], hasMessage, tc.truncated, tc.hasMessage)
			}
		})
	}
}

func TestADeadLetterThatNeverFitsWaitsUntilTheTopicTakesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	createSmallTopic(t, w, "small.dlq", 6000)
	w.publish(event{key: "a", value: noise(5900)}, event{key: "b", value: "1"})
	m := w.start(func(c *inbox.Config) {
		c.DeadLetterTopic = "small.dlq"
		c.ClientOptions = append(c.ClientOptions, kgo.ProducerBatchCompression(kgo.NoCompression()))
		buries(errors.New("no"))(c)
	})
	m.awaitResults(inbox.Dead, 1)
	m.awaitResults(inbox.Held, 3)
	if got := w.committed(topic, 0); got > 0 {
		t.Errorf("committed offset = %d, want none", got)
	}
	raise := kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kadm.StringPtr("20000")}
	if _, err := w.admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{raise}, "small.dlq"); err != nil {
		t.Fatal(err)
	}
	m.awaitResults(inbox.Dead, 2)
	w.awaitCommitted(0, 2)
	m.mustStop()
}

func TestAPanicLeavesItsStackInTheDeadLetter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"})
	m := w.start(func(c *inbox.Config) {
		c.Retry.Attempts = 2
		c.Handlers[topic] = func(context.Context, pgx.Tx, *inbox.Message) error { deep(1, "boom"); return nil }
	})
	m.awaitResults(inbox.Dead, 1)
	m.mustStop()
	got := headers(w.kafka.Records(t, deadLetters, 1, limit)[0])
	if got["x-dlq-code"] != "panic" || got["x-dlq-class"] != "transient" || got["__dlq.errors.delivery.count"] != "2" {
		t.Errorf("headers = %v, want code panic, class transient, delivery count 2", got)
	}
	if stack := got["x-dlq-stack"]; !strings.Contains(stack, "inbox_test.deep") || len(stack) > 8<<10 {
		t.Errorf("stack of %d bytes = %q, want one that names the function and has at most 8 KiB", len(stack), stack)
	}
}

func deep(n int, text string) {
	if n == 0 {
		panic(text)
	}
	deep(n-1, text)
}

func createSmallTopic(t *testing.T, w *world, name string, most int) {
	t.Helper()
	limit := map[string]*string{"max.message.bytes": kadm.StringPtr(fmt.Sprint(most))}
	if _, err := w.admin.CreateTopic(t.Context(), 1, 1, limit, name); err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
}

func noise(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // documented never to fail
	return string(b)
}

// The dead-letter topic is out while many die. Whoever waits for it must neither hold a worker nor be told of as refused.
func TestManyDeadLettersThatTakeLongHoldUpNoOtherKey(t *testing.T) {
	t.Parallel()
	const dying = 40
	w := newWorld(t)
	fault := w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetters, Err: kerr.NotEnoughReplicas, Count: -1}) // the client goes on trying
	for i := range dying {
		w.publish(event{key: fmt.Sprint("bad", i), value: "1"})
	}
	w.publish(event{key: "good", value: "1"})
	m := w.start(func(c *inbox.Config) {
		c.Concurrency = 1
		c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			if m.Key != "good" {
				return inbox.Permanent(errors.New("no"), "test")
			}
			return effect(ctx, tx, m)
		}
	})
	m.awaitResults(inbox.Done, 1)
	if n := m.seen.results(inbox.Held); n > 2 {
		t.Errorf("%d times held before the healthy key had its turn, want at most that of the letter that is on its way", n)
	}
	if got := w.committed(topic, 0); got > 0 {
		t.Errorf("committed offset = %d while no dead letter is acknowledged", got)
	}
	fault.Remove()
	m.awaitResults(inbox.Dead, dying)
	w.awaitCommitted(0, dying+1)
	m.mustStop()
	if ends := w.kafka.EndOffsets(t, deadLetters); ends[0]+ends[1]+ends[2] != dying {
		t.Errorf("ends of the dead-letter topic = %v, want %d letters", ends, dying)
	}
	if n := w.count("inbox"); n != dying+1 {
		t.Errorf("inbox has %d rows, want %d", n, dying+1)
	}
	if log := m.log.String(); strings.Contains(log, "dead letter was refused") {
		t.Error("the log tells of a refusal, and there was none")
	}
}

// A stop in good order finishes the letter that is on its way: sent and not accounted for, it would be sent again.
func TestAStopFinishesTheBurialThatHasBegun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fault := w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetters, Err: kerr.NotEnoughReplicas, Count: -1})
	w.publish(event{key: "bad", value: "1"}, event{key: "bad", value: "2"})
	m := w.start(buries(errors.New("no")))
	waiting, enough := context.WithTimeout(t.Context(), limit)
	defer enough()
	if err := fault.Wait(waiting, 1); err != nil {
		t.Fatalf("waited %v in vain for the letter: %v", limit, err)
	}
	m.cancel()
	await(t, "the consumer to be unready", func() bool { return m.consumer.Ready() != nil })
	fault.Remove()
	if err := m.wait(); err != nil {
		t.Errorf("Run = %v, want a clean drain", err)
	}
	if diff := cmp.Diff(map[inbox.Result]int{inbox.Dead: 1}, m.seen.all()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if got, n := w.committed(topic, 0), w.count("inbox"); got != 1 || n != 1 {
		t.Errorf("committed offset = %d, inbox rows = %d, want 1 and 1", got, n)
	}
}

func TestADeadLetterThatTakesLongHoldsNoWorkerAndIsSentOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fault := w.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetters, Err: kerr.NotEnoughReplicas, Count: -1}) // the client goes on trying
	w.publish(event{key: "bad", value: "1"}, event{key: "good", value: "1"})
	m := w.start(func(c *inbox.Config) {
		c.Concurrency = 1
		c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			if m.Key == "bad" {
				return inbox.Permanent(errors.New("no"), "test")
			}
			return effect(ctx, tx, m)
		}
	})
	m.awaitResults(inbox.Held, 1)
	m.awaitResults(inbox.Done, 1)
	fault.Remove()
	m.awaitResults(inbox.Dead, 1)
	w.awaitCommitted(0, 2)
	m.mustStop()
	if ends := w.kafka.EndOffsets(t, deadLetters); ends[0]+ends[1]+ends[2] != 1 {
		t.Errorf("ends of the dead-letter topic = %v, want one letter", ends)
	}
}
