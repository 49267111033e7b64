package inbox

import (
	"crypto/sha256"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/record"
)

// identify finds the 128 bits by which the inbox knows a message, and their source as text. Where header id is a UUID it is that. Any other
// id is hashed together with its topic, because foreign ids are unique within their topic at best. Where there is no id, named is false and
// the place of the record stands in: that recognises a redelivery, but not an event that was published twice.
func identify(rec *kgo.Record) (id outbox.EventID, text string, named bool) {
	for _, h := range rec.Headers { // the last one counts, as in record.Decode
		if h.Key == record.HeaderID {
			text = string(h.Value)
		}
	}
	if text == "" {
		// No id begins with a zero byte in PostgreSQL's text, so this cannot be taken for one.
		id = hash(rec.Topic, "\x00"+strconv.Itoa(int(rec.Partition))+"/"+strconv.FormatInt(rec.Offset, 10))
		return id, id.String(), false
	}
	if id, err := outbox.ParseID(text); err == nil {
		return id, text, true
	}
	return hash(rec.Topic, text), text, true
}

// hash is the first 128 bits of SHA-256 over topic, a zero byte, which no topic has, and id.
func hash(topic, id string) outbox.EventID {
	sum := sha256.Sum256([]byte(topic + "\x00" + id))
	return outbox.EventID(sum[:16])
}
