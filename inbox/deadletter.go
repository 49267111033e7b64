package inbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Headers of a dead letter. The first six are those of Kafka's own dead letters (KIP-1191). All values are text.
const (
	dlqErrors            = "__dlq.errors."
	dlqTopic             = dlqErrors + "topic"
	dlqPartition         = dlqErrors + "partition"
	dlqOffset            = dlqErrors + "offset"
	dlqGroup             = dlqErrors + "group"
	dlqDeliveryCount     = dlqErrors + "delivery.count"
	dlqMessage           = dlqErrors + "message"
	dlqOurs              = "x-dlq-"
	dlqID                = dlqOurs + "id"
	dlqCode              = dlqOurs + "code"
	dlqClass             = dlqOurs + "class"
	dlqFingerprint       = dlqOurs + "fingerprint"
	dlqHandler           = dlqOurs + "handler"
	dlqFirstFailedAt     = dlqOurs + "first-failed-at"
	dlqFailedAt          = dlqOurs + "failed-at"
	dlqOriginalTimestamp = dlqOurs + "original-timestamp"
	dlqStack             = dlqOurs + "stack"
	dlqTruncated         = dlqOurs + "truncated" // what is missing because the topic would not take it, as in "stack,message"
)

const (
	maxDeadMessage = 1 << 10
	maxDeadStack   = 8 << 10
)

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
	d := &deadLetter{class: classify(err), code: code(err), message: clip(err.Error(), maxDeadMessage), at: time.Now()}
	d.fingerprint = fingerprint(d.class, d.code, err.Error())
	if p, ok := errors.AsType[*panicError](err); ok {
		d.stack = clip(string(p.stack), maxDeadStack)
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
		if !strings.HasPrefix(h.Key, dlqErrors) && !strings.HasPrefix(h.Key, dlqOurs) {
			dst.Headers = append(dst.Headers, h)
		}
	}
	add := func(key, value string) {
		dst.Headers = append(dst.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	add(dlqTopic, src.Topic)
	add(dlqPartition, strconv.Itoa(int(src.Partition)))
	add(dlqOffset, strconv.FormatInt(src.Offset, 10))
	add(dlqGroup, group)
	add(dlqDeliveryCount, strconv.Itoa(it.attempts))
	if d.message != "" {
		add(dlqMessage, d.message)
	}
	add(dlqID, m.ID)
	add(dlqCode, d.code)
	add(dlqClass, d.class.String())
	add(dlqFingerprint, d.fingerprint)
	if m.Type != "" {
		add(dlqHandler, m.Type)
	}
	first := it.firstFailed
	if first.IsZero() {
		first = d.at
	}
	add(dlqFirstFailedAt, first.UTC().Format(time.RFC3339Nano))
	add(dlqFailedAt, d.at.UTC().Format(time.RFC3339Nano))
	add(dlqOriginalTimestamp, src.Timestamp.UTC().Format(time.RFC3339Nano))
	if d.stack != "" {
		add(dlqStack, d.stack)
	}
	if len(d.dropped) > 0 {
		add(dlqTruncated, strings.Join(d.dropped, ","))
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

// variable is what differs between messages that died of one cause: quoted parts, UUIDs, numbers.
var variable = regexp.MustCompile(`"[^"]*"|'[^']*'|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9]+`)

// fingerprint groups dead letters of one cause.
func fingerprint(class class, code, message string) string {
	sum := sha256.Sum256([]byte(class.String() + "\x00" + code + "\x00" + variable.ReplaceAllString(message, "?")))
	return hex.EncodeToString(sum[:8])
}

// clip makes valid UTF-8 of at most n bytes.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
