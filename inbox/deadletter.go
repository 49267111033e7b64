package inbox

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
)

const maxDeadStack = 8 << 10

// deadLetter is why and when a message was given up, and how far its burial got.
type deadLetter struct {
	class       class
	code        string
	fingerprint string
	message     string
	stack       string
	at          time.Time
	dropped     []string // parts left out because the topic would not take them
	acked       bool     // the topic has it
}

func newDeadLetter(err error) *deadLetter {
	d := &deadLetter{class: classify(err), code: code(err), message: record.Clip(err.Error(), record.MaxDeadMessage), at: time.Now()}
	d.fingerprint = record.Fingerprint(d.class.String(), d.code, err.Error())
	if p, ok := errors.AsType[*panicError](err); ok {
		d.stack = record.Clip(string(p.stack), maxDeadStack)
	}
	return d
}

// record makes the dead letter: key, value and headers of the original byte for byte, except that headers named like ours are replaced, or
// a letter that comes round again would grow each time. The timestamp is that of the burial: with the original's, an old event would be
// past the topic's retention on arrival.
func (d *deadLetter) record(it *item, m *Message, group, topic string) *kgo.Record {
	src := it.rec
	dst := &kgo.Record{Topic: topic, Partition: src.Partition, Key: src.Key, Value: src.Value}
	for _, h := range src.Headers {
		if !record.IsDeadHeader(h.Key) {
			dst.Headers = append(dst.Headers, h)
		}
	}
	add := func(key, value string) {
		dst.Headers = append(dst.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	add(record.HeaderDeadTopic, src.Topic)
	add(record.HeaderDeadPartition, strconv.Itoa(int(src.Partition)))
	add(record.HeaderDeadOffset, strconv.FormatInt(src.Offset, 10))
	add(record.HeaderDeadGroup, group)
	add(record.HeaderDeadDeliveryCount, strconv.Itoa(it.attempts))
	if d.message != "" {
		add(record.HeaderDeadMessage, d.message)
	}
	add(record.HeaderDeadID, m.ID)
	add(record.HeaderDeadCode, d.code)
	add(record.HeaderDeadClass, d.class.String())
	add(record.HeaderDeadFingerprint, d.fingerprint)
	if m.Type != "" {
		add(record.HeaderDeadHandler, m.Type)
	}
	first := it.firstFailed
	if first.IsZero() {
		first = d.at
	}
	add(record.HeaderDeadFirstFailedAt, first.UTC().Format(time.RFC3339Nano))
	add(record.HeaderDeadFailedAt, d.at.UTC().Format(time.RFC3339Nano))
	add(record.HeaderDeadOriginalTimestamp, src.Timestamp.UTC().Format(time.RFC3339Nano))
	if d.stack != "" {
		add(record.HeaderDeadStack, d.stack)
	}
	if len(d.dropped) > 0 {
		add(record.HeaderDeadTruncated, strings.Join(d.dropped, ","))
	}
	return dst
}

// shrink leaves out one more part after err, if err says that the record is too large and there is a part to leave out. What remains is the
// original and some 600 bytes; if that is too large as well, the topic's max.message.bytes (or the client's ProducerBatchMaxBytes) must be
// raised.
func (d *deadLetter) shrink(err error) bool {
	if !errors.Is(err, kerr.MessageTooLarge) && !errors.Is(err, kerr.RecordListTooLarge) {
		return false
	}
	switch {
	case d.stack != "":
		d.stack, d.dropped = "", append(d.dropped, "stack")
	case d.message != "":
		d.message, d.dropped = "", append(d.dropped, "message")
	default:
		return false
	}
	return true
}
