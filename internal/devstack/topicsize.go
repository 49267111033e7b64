package devstack

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TopicSize is how much is in a topic.
type TopicSize struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`

	// Records are the offsets in use that are no markers of transactions and no records of aborted ones, going by the share of those in what was read.
	Records int64 `json:"records"`
}

type partition struct {
	topic  string
	number int32
}

// span is a stretch of a partition that was read.
type span struct {
	from, next int64
	records    int64 // in it
}

// count notes what a consumer of committed records is given, markers included.
func (t *TopicReader) count(rec *kgo.Record) {
	at := partition{rec.Topic, rec.Partition}
	read, known := t.spans[at]
	if !known || rec.Offset < read.next { // a topic that was made again begins anew
		read = span{from: rec.Offset}
	}
	read.next = rec.Offset + 1
	if !rec.Attrs.IsControl() {
		read.records++
	}
	t.spans[at] = read
}

// recordsIn is how many of so many offsets are records. Where everything was read, as of a topic that is not large, that is exact.
func (t *TopicReader) recordsIn(at partition, offsets int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	read, known := t.spans[at]
	if !known {
		return offsets
	}
	return int64(math.Round(float64(offsets) * float64(read.records) / float64(read.next-read.from)))
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
		if machinery.MatchString(topic) {
			continue
		}
		size := TopicSize{Topic: topic, Partitions: len(partitions)}
		for number, end := range partitions {
			start, _ := starts.Lookup(topic, number) // a partition made between the two requests starts at 0
			size.Records += t.recordsIn(partition{topic, number}, end.Offset-start.Offset)
		}
		sizes = append(sizes, size)
	}
	slices.SortFunc(sizes, func(a, b TopicSize) int { return cmp.Compare(a.Topic, b.Topic) })
	return sizes, nil
}

// watermarks matches the topic in which walpost's relay keeps its place.
const watermarks = `^outbox\.relay\.watermarks$`

// machinery matches topics that hold no events: the relay's place, what Kafka Connect keeps its state in, and Debezium's signs of life.
var machinery = regexp.MustCompile(`^walpost-connect-|^__|` + watermarks)
