package devstack

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
)

const (
	keptPlaces    = 10_000
	readBack      = 2_000 // records of each partition that are read again at a start
	newTopicsFrom = 3 * time.Second
)

// Place is where an event stands in Kafka, read from its record.
type Place struct {
	Topic       string
	Partition   int32
	Offset      int64     // of the first record of this event that was seen
	PublishedAt time.Time // the record's timestamp, set by who published it
	CommittedAt time.Time // when PostgreSQL committed it; zero when the relay adds no position headers
	LSN         string    // its commit's place in the write-ahead log; "" as above
	Copies      int       // records with this event's id; more than one is what at least once may do
	DeadLetter  string    // topic-partition@offset of its dead letter; "" for none
}

// TopicReader reads along with every topic, outside any consumer group, and remembers where the last 10,000 events stand. Its methods are safe for
// concurrent use.
type TopicReader struct {
	client      *kgo.Client
	deadLetters string

	mu    sync.Mutex // protects what follows
	byID  map[string]Place
	ids   [keptPlaces]string // a ring of the keys of byID
	next  int
	spans map[partition]span
}

// NewTopicReader makes a reader of the brokers' topics; deadLetters is the topic whose records are dead letters, not events.
func NewTopicReader(brokers []string, deadLetters string) (*TopicReader, error) {
	from := kgo.NewOffset().AtEnd().Relative(-readBack)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumeRegex(), kgo.ConsumeTopics(`^[^_]`), kgo.ConsumeExcludeTopics(watermarks), // topics that begin with an underscore are for housekeeping
		kgo.ConsumeStartOffset(from), kgo.ConsumeResetOffset(from),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), // which are counted
		kgo.MetadataMinAge(newTopicsFrom/2), kgo.MetadataMaxAge(newTopicsFrom),
	)
	if err != nil {
		return nil, fmt.Errorf("reader of the topics: %w", err)
	}
	return &TopicReader{client: client, deadLetters: deadLetters, byID: make(map[string]Place), spans: make(map[partition]span)}, nil
}

// Run reads until ctx is done. What cannot be read now is tried again by the client; Sizes tells when the broker does not answer.
func (t *TopicReader) Run(ctx context.Context) error {
	defer t.client.Close()
	for {
		fetches := t.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		fetches.EachRecord(t.note)
	}
}

// Of returns where the event stands; false when none of the records read has its id.
func (t *TopicReader) Of(id string) (Place, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at, known := t.byID[id]
	return at, known
}

func (t *TopicReader) note(rec *kgo.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count(rec)
	id := header(rec, record.HeaderID)
	if id == "" {
		return // not an event
	}
	at, known := t.byID[id]
	switch {
	case rec.Topic == t.deadLetters:
		at.DeadLetter = fmt.Sprintf("%s-%d@%d", rec.Topic, rec.Partition, rec.Offset)
	case at.Copies > 0:
		at.Copies++
	default:
		at = Place{
			Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, PublishedAt: rec.Timestamp, Copies: 1,
			LSN: header(rec, record.HeaderLSN), CommittedAt: parseTime(header(rec, record.HeaderCommittedAt)), DeadLetter: at.DeadLetter,
		}
	}
	if !known {
		delete(t.byID, t.ids[t.next])
		t.ids[t.next] = id
		t.next = (t.next + 1) % keptPlaces
	}
	t.byID[id] = at
}

func header(rec *kgo.Record, key string) string {
	for _, h := range rec.Headers {
		if h.Key == key {
			return strings.ToValidUTF8(string(h.Value), "\ufffd")
		}
	}
	return ""
}

func parseTime(text string) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, text) // absent or foreign: the zero time
	return at
}
