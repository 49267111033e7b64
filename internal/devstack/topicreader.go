package devstack

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
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
	Copies      int       // records with this event's id; more than one is what "at least once" means
	DeadLetter  string    // topic-partition@offset of its dead letter; "" for none
}

// TopicSize is how much is in a topic.
type TopicSize struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
	Records    int64  `json:"records"` // the offsets in use: the markers of transactions count too
}

// TopicReader reads along with every topic, outside any consumer group, and remembers where the last 10,000 events stand. Its methods are safe for
// concurrent use.
type TopicReader struct {
	client      *kgo.Client
	deadLetters string

	mu   sync.Mutex // protects byID and ids
	byID map[string]Place
	ids  [keptPlaces]string // a ring of the keys of byID
	next int
}

// NewTopicReader makes a reader of the brokers' topics; deadLetters is the topic whose records are dead letters, not events.
func NewTopicReader(brokers []string, deadLetters string) (*TopicReader, error) {
	from := kgo.NewOffset().AtEnd().Relative(-readBack)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ConsumeRegex(), kgo.ConsumeTopics(`^[^_]`), // topics that begin with an underscore are for housekeeping
		kgo.ConsumeStartOffset(from), kgo.ConsumeResetOffset(from),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.MetadataMinAge(newTopicsFrom/2), kgo.MetadataMaxAge(newTopicsFrom),
	)
	if err != nil {
		return nil, fmt.Errorf("reader of the topics: %w", err)
	}
	return &TopicReader{client: client, deadLetters: deadLetters, byID: make(map[string]Place)}, nil
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

// Sizes asks the broker how much is in each topic of events or dead letters.
func (t *TopicReader) Sizes(ctx context.Context) ([]TopicSize, error) {
	admin := kadm.NewClient(t.client)
	ends, err := admin.ListEndOffsets(ctx)
	if err != nil {
		return nil, fmt.Errorf("end offsets: %w", err)
	}
	starts, err := admin.ListStartOffsets(ctx)
	if err != nil {
		return nil, fmt.Errorf("start offsets: %w", err)
	}
	var sizes []TopicSize
	for topic, partitions := range ends {
		if machinery(topic) {
			continue
		}
		size := TopicSize{Topic: topic, Partitions: len(partitions)}
		for partition, end := range partitions {
			start, _ := starts.Lookup(topic, partition) // a partition made between the two requests starts at 0
			size.Records += end.Offset - start.Offset
		}
		sizes = append(sizes, size)
	}
	slices.SortFunc(sizes, func(a, b TopicSize) int { return cmp.Compare(a.Topic, b.Topic) })
	return sizes, nil
}

// machinery reports whether a topic of the real stack holds no events: what Kafka Connect keeps its state in, and Debezium's signs of life.
func machinery(topic string) bool {
	return strings.HasPrefix(topic, "walpost-connect-") || strings.HasPrefix(topic, "__")
}

func (t *TopicReader) note(rec *kgo.Record) {
	id := header(rec, record.HeaderID)
	if id == "" {
		return // not an event
	}
	t.mu.Lock()
	defer t.mu.Unlock()
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
