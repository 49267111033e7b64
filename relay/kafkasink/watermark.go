package kafkasink

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// watermarkPartition is the partition of the watermark topic that is written and read.
const watermarkPartition = 0

// kept is the value of a watermark record, as JSON. Its key is the system identifier and the slot.
type kept struct {
	Timeline int32   `json:"timeline"`
	Commit   textLSN `json:"commit_lsn"` // zero: no event was published yet
	Index    uint32  `json:"index"`
	EventID  string  `json:"event_id"`
	End      textLSN `json:"end_lsn"`
	Ring     int     `json:"ring"`

	// Offsets are the highest offsets of events by topic and partition, -1 for none, as they were known when the transaction began.
	Offsets offsets `json:"offsets,omitempty"`
}

// textLSN is an LSN in PostgreSQL's text form.
type textLSN relay.LSN

func (l textLSN) MarshalText() ([]byte, error) { return []byte(relay.LSN(l).String()), nil }

func (l *textLSN) UnmarshalText(src []byte) error {
	lsn, err := relay.ParseLSN(string(src))
	*l = textLSN(lsn)
	return err
}

func watermarkKey(o relay.Origin) string { return o.SystemID + "/" + o.Slot }

// watermarkRecord is the record that keeps w.
func watermarkRecord(topic string, o relay.Origin, ring int, w relay.Watermark, written offsets) (*kgo.Record, error) {
	value, err := json.Marshal(kept{
		Timeline: o.Timeline, Commit: textLSN(w.Position.Commit), Index: w.Position.Index, EventID: w.EventID, End: textLSN(w.End), Ring: ring, Offsets: written,
	})
	if err != nil {
		return nil, fmt.Errorf("encode watermark: %w", err)
	}
	return &kgo.Record{Topic: topic, Key: []byte(watermarkKey(o)), Value: value}, nil
}

func decodeWatermark(value []byte) (k kept, err error) {
	if err := json.Unmarshal(value, &k); err != nil {
		return k, fmt.Errorf("watermark %q: %w", value, err)
	}
	if k.Timeline <= 0 || k.Ring <= 0 || k.Commit != 0 && k.EventID == "" {
		return k, fmt.Errorf("watermark %q: %w", value, errors.New("a field is missing"))
	}
	return k, nil
}

func (k kept) watermark() relay.Watermark {
	return relay.Watermark{
		Timeline: k.Timeline, Position: record.Position{Commit: relay.LSN(k.Commit), Index: k.Index}, EventID: k.EventID, End: relay.LSN(k.End),
	}
}

// offsets are the highest offset written to each partition of each topic; -1 is none.
type offsets map[string][]int64

// maxOffsets bounds the partitions whose offsets are remembered, and with them the size of a watermark.
const maxOffsets = 4096

// add takes over the offsets of acknowledged records.
func (o offsets) add(records []kgo.Record) {
	var topic string
	var of []int64
	for i := range records {
		rec := &records[i]
		if rec.Topic != topic {
			topic, of = rec.Topic, o[rec.Topic]
		}
		if int(rec.Partition) >= len(of) {
			if of = o.grow(topic, int(rec.Partition)+1); of == nil {
				continue
			}
		}
		of[rec.Partition] = max(of[rec.Partition], rec.Offset)
	}
}

// grow makes room for n partitions, or returns nil when there is no more.
func (o offsets) grow(topic string, n int) []int64 {
	total := n - len(o[topic])
	for _, of := range o {
		total += len(of)
	}
	if total > maxOffsets {
		return nil
	}
	for len(o[topic]) < n {
		o[topic] = append(o[topic], -1)
	}
	return o[topic]
}
