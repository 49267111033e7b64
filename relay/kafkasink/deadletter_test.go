package kafkasink_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
)

const graveyard = "dead"

// burying is a broker with the topics things and dead, and a sink that makes dead letters.
func burying(t *testing.T, delivery relay.Delivery, change func(*kafkasink.Config)) (*kafkatest.Cluster, *kafkasink.Sink) {
	t.Helper()
	c := cluster(t, kfake.SeedTopics(3, graveyard))
	cfg := kafkasink.Config{
		Brokers: c.Brokers, Delivery: delivery, DeadLetterTopic: graveyard, ClientOptions: []kgo.Opt{kgo.MetadataMinAge(10 * time.Millisecond)},
	}
	if change != nil {
		change(&cfg)
	}
	return c, newSink(t, cfg)
}

// untilPublished publishes the events in as many sessions as it takes, as the engine does, and returns how many that were and the causes of the dead
// letters by event. Every failure must be one from which the next session learns.
func untilPublished(t *testing.T, sink *kafkasink.Sink, all []relay.Event) (sessions int, dead map[string]relay.Cause) {
	t.Helper()
	dead = make(map[string]relay.Cause)
	for o := fresh; ; o = used {
		sessions++
		p := mustOpen(t, sink, o)
		p.Publisher.(relay.DeadReporter).ReportDead(func(ev *relay.Event, why *relay.HaltError) { dead[ev.ID()] = why.Cause })
		err := publishRest(t, p, all)
		_ = p.Close()
		if err == nil {
			return sessions, dead
		}
		var learned *relay.Learned
		var halt *relay.HaltError
		if !errors.As(err, &learned) || errors.As(err, &halt) || sessions == 20 {
			t.Fatalf("Publish in session %d = %v, want an error that passes and that something was learned from", sessions, err)
		}
	}
}

// letter is what a dead letter says.
type letter struct {
	Key, Value string
	Headers    map[string]string
}

// lettersOf are the dead letters, in the order of their keys' partitions.
func lettersOf(t *testing.T, c *kafkatest.Cluster, n int) []letter {
	t.Helper()
	var out []letter
	for _, rec := range c.Records(t, graveyard, n, patience) {
		l := letter{string(rec.Key), string(rec.Value), map[string]string{}}
		if rec.Value == nil {
			l.Value = "null"
		}
		for _, h := range rec.Headers {
			l.Headers[h.Key] = string(h.Value)
		}
		out = append(out, l)
	}
	if ends := c.EndOffsets(t, graveyard); sum(ends) < int64(n) {
		t.Errorf("topic of dead letters ends at %v, want %d letters", ends, n)
	}
	return out
}

func sum(ends map[int32]int64) (n int64) {
	for _, end := range ends {
		n += end
	}
	return n
}

// kill makes of an event what a Source hands on of a row that is no record.
func kill(ev *relay.Event) {
	ev.Record.Topic = ""
	ev.Record.Headers = append(ev.Record.Headers, record.Header{Key: record.HeaderDeadMessage, Value: []byte("row cannot become a record: a column of its topic is NULL")})
}

func TestAnEventThatCanNeverBePublishedBecomesADeadLetterInItsPlace(t *testing.T) {
	t.Parallel()
	const code = "x-dlq-code"
	for name, tc := range map[string]struct {
		spoil    func(*relay.Event)
		arrange  func(*testing.T, *kafkatest.Cluster)
		change   func(*kafkasink.Config)
		want     map[string]string // headers
		says     string
		value    string // of the letter; "": the event's own
		sessions int
	}{
		"a row that is no record": {
			spoil: kill,
			want:  map[string]string{code: "unpublishable"}, says: "a column of its topic is NULL", sessions: 1,
		},
		"an event too large for its topic": {
			spoil:   func(ev *relay.Event) { ev.Record.Value = []byte(strings.Repeat("x", 20_000)) },
			arrange: func(t *testing.T, c *kafkatest.Cluster) { limit(t, c, 10_000) },
			want:    map[string]string{code: "event_too_large", "__dlq.errors.topic": "things"}, says: "10000", sessions: 1,
		},
		"an event too large for the dead letters as well": {
			spoil: func(ev *relay.Event) { ev.Record.Value = []byte(strings.Repeat("x", 1_100_000)) },
			want:  map[string]string{code: "event_too_large", "__dlq.errors.topic": "things", "x-dlq-truncated": "value"}, says: "1100", value: "null", sessions: 1,
		},
		"an event too large for the smaller topic of dead letters": {
			spoil:   func(ev *relay.Event) { ev.Record.Value = []byte(strings.Repeat("x", 20_000)) },
			arrange: func(t *testing.T, c *kafkatest.Cluster) { limit(t, c, 10_000); limitOf(t, c, graveyard, 5_000) },
			want:    map[string]string{code: "event_too_large", "__dlq.errors.topic": "things", "x-dlq-truncated": "value"}, says: "10000", value: "null", sessions: 1,
		},
		"an event that only the broker finds too large": {
			spoil: func(ev *relay.Event) { ev.Record.Value = []byte(strings.Repeat("x", 20_000)) },
			arrange: func(t *testing.T, c *kafkatest.Cluster) {
				limit(t, c, 10_000)
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeConfigs}, Resource: "things", Err: kerr.TopicAuthorizationFailed, Count: -1})
			},
			want: map[string]string{code: "event_too_large", "__dlq.errors.topic": "things"}, says: "MESSAGE_TOO_LARGE", sessions: 3, // a batch, one by one, the letter
		},
		"an event whose topic does not exist": {
			spoil: func(ev *relay.Event) { ev.Record.Topic = "nowhere" },
			want:  map[string]string{code: "topic_missing", "__dlq.errors.topic": "nowhere"}, says: "topic nowhere does not exist", sessions: 2,
		},
		"an event whose topic cannot be created": {
			spoil: func(ev *relay.Event) { ev.Record.Topic = "no_where" },
			arrange: func(t *testing.T, c *kafkatest.Cluster) {
				c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: "no_where", Err: kerr.InvalidTopicException, Count: -1})
			},
			change: func(cfg *kafkasink.Config) { cfg.CreateTopics = true },
			want:   map[string]string{code: "unpublishable", "__dlq.errors.topic": "no_where"}, says: "refuses the topic name", sessions: 1,
		},
		"an event to where dead letters are": {
			spoil: func(ev *relay.Event) { ev.Record.Topic = graveyard },
			want:  map[string]string{code: "unpublishable", "__dlq.errors.topic": graveyard}, says: "keeps dead letters", sessions: 1,
		},
	} {
		for _, delivery := range deliveries {
			t.Run(name+", "+delivery.String(), func(t *testing.T) {
				t.Parallel()
				c, sink := burying(t, delivery, tc.change)
				if tc.arrange != nil {
					tc.arrange(t, c)
				}
				all := []relay.Event{event(1, "k", "before"), event(2, "k", "bad"), event(3, "k", "behind"), event(4, "other", "apart")}
				all[1].Record.Headers = append(all[1].Record.Headers, record.Header{Key: "x-dlq-stack", Value: []byte("of a former life")})
				tc.spoil(&all[1])
				bad := all[1]
				sessions, dead := untilPublished(t, sink, all)
				if sessions != tc.sessions {
					t.Errorf("it took %d sessions, want %d", sessions, tc.sessions)
				}
				if len(dead) != 1 || dead["event-2"].String() != tc.want[code] {
					t.Errorf("dead are %v, want event-2 for %s", dead, tc.want[code])
				}
				if delivery == relay.ExactlyOnce {
					wantCommitted(t, c.Brokers, "before", "behind", "apart")
					if n := len(committed(t, c.Brokers, graveyard)); n != 1 {
						t.Errorf("%d dead letters were committed, want 1", n)
					}
				}
				letters := lettersOf(t, c, 1)
				got := letters[len(letters)-1]
				if value := string(bad.Record.Value); got.Key != "k" || tc.value == "" && got.Value != value || tc.value != "" && got.Value != tc.value {
					t.Errorf("dead letter = %.100q: %.100q, want key and value of the event", got.Key, got.Value)
				}
				wantHeaders(t, got.Headers, tc.want, tc.says)
			})
		}
	}
}

// wantHeaders checks the headers of event 2's dead letter.
func wantHeaders(t *testing.T, got, want map[string]string, says string) {
	t.Helper()
	want = maps.Clone(want) // both deliveries have it
	want["id"], want["traceparent"], want["x-dlq-id"], want["x-dlq-class"] = "event-2", "", "event-2", "permanent"
	want["walpost_lsn"], want["walpost_index"], want["walpost_committed_at"] = "0/66", "1", "2026-11-23T20:00:00.000000Z"
	want["x-dlq-original-timestamp"] = "2026-11-23T20:00:00Z"
	if message := got["__dlq.errors.message"]; !strings.Contains(message, says) || len(message) > 1<<10 {
		t.Errorf("header __dlq.errors.message = %q, want %q in it", message, says)
	}
	if at, err := time.Parse(time.RFC3339Nano, got["x-dlq-failed-at"]); err != nil || time.Since(at) > time.Hour {
		t.Errorf("header x-dlq-failed-at = %q, %v, want the present time", got["x-dlq-failed-at"], err)
	}
	if len(got["x-dlq-fingerprint"]) != 16 {
		t.Errorf("header x-dlq-fingerprint = %q, want 16 digits", got["x-dlq-fingerprint"])
	}
	for _, varies := range []string{"__dlq.errors.message", "x-dlq-failed-at", "x-dlq-fingerprint"} {
		delete(got, varies)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestADeadLetterWithoutRoomForItsHeadersKeepsTheID(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			c, sink := burying(t, delivery, nil)
			laden := one(1)
			laden.Record.Headers[1] = record.Header{Key: record.HeaderHeaders, Value: []byte(strings.Repeat("h", 1_100_000))}
			untilPublished(t, sink, []relay.Event{laden, one(2)})
			got := lettersOf(t, c, 1)[0].Headers
			if _, has := got[record.HeaderHeaders]; has || got["id"] != "event-1" || got["x-dlq-truncated"] != "value,headers" {
				t.Errorf("headers = %.300v, want the id and that value and headers are missing", got)
			}
		})
	}
}

// With several records in the batch nobody knows which of them the broker means.
func TestARecordThatTheBrokerRefusesIsFoundAmongItsNeighbours(t *testing.T) {
	t.Parallel()
	for _, delivery := range deliveries {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			c, sink := burying(t, delivery, nil)
			c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "things", Err: kerr.InvalidRecord, Count: -1, When: func(req kmsg.Request) bool {
				return slices.ContainsFunc(req.(*kmsg.ProduceRequest).Topics, func(topic kmsg.ProduceRequestTopic) bool {
					return slices.ContainsFunc(topic.Partitions, func(p kmsg.ProduceRequestTopicPartition) bool {
						return bytes.Contains(p.Records, []byte("poison")) && !bytes.Contains(p.Records, []byte("x-dlq"))
					})
				})
			}})
			all := sized(50, 10)
			for _, n := range []int{7, 30} {
				all[n].Record.Value = fmt.Append(nil, "poison", n)
			}
			sessions, dead := untilPublished(t, sink, all)
			if sessions != 5 { // for each of the two: the batch, and one by one
				t.Errorf("it took %d sessions, want 5", sessions)
			}
			values := map[string]bool{}
			for _, l := range lettersOf(t, c, 2) {
				values[l.Value] = true
				if got := l.Headers["x-dlq-code"]; got != "unpublishable" {
					t.Errorf("header x-dlq-code = %q, want unpublishable", got)
				}
			}
			if diff := cmp.Diff(map[string]bool{"poison7": true, "poison30": true}, values); diff != "" {
				t.Errorf("values of dead letters (-want +got):\n%s", diff)
			}
			living := slices.DeleteFunc(all, func(ev relay.Event) bool { return dead[ev.ID()] != 0 })
			if len(living) != 48 {
				t.Errorf("%d events live, want 48", len(living))
			}
			if delivery == relay.ExactlyOnce {
				wantValues(t, c, living)
			}
			seen := map[string]bool{}
			for _, value := range committed(t, c.Brokers, "things") {
				seen[value] = true
			}
			if len(seen) != 48 {
				t.Errorf("%d different events were published, want 48", len(seen))
			}
		})
	}
}
