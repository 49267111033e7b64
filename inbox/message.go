package inbox

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/record"
)

// TxHandler applies one message. Everything it writes through tx is committed together with the message's inbox row, or not at all, so that
// it takes effect exactly once; the consumer ends the transaction, and the handler's own Commit or Rollback is refused (Begin gives a
// savepoint). A statement that ends it all the same ("rollback" through Exec) is a failed attempt; one that also begins another ("commit;
// begin") is not found out and takes the guarantee away. What a handler does elsewhere may happen more than once.
//
// The returned error decides what follows: nil commits; an error of Permanent buries the message at once; any other error is a failed
// attempt, unless it says that the database or another service cannot be reached, or is one of Systemic, in which case the message waits for
// as long as that lasts. A panic is a failed attempt. ctx ends with HandlerTimeout, when the consumer stops or when it loses the partition; the latter two
// are no attempt.
//
// A message can be faster than the commit that it tells of: the log is read as soon as it is written, and the writer's rows may become visible to
// other sessions a moment later. A handler that misses such rows returns an error, not one of Permanent, and is run again.
//
// Handlers of different keys run at the same time. A handler must not keep m, nor change its bytes.
type TxHandler func(ctx context.Context, tx pgx.Tx, m *Message) error

// Message is what a handler gets: the event, and the record that brought it.
type Message struct {
	// Message is the decoded event. Its ID is the text of header id, or a UUID made of topic, partition and offset where there is none.
	record.Message

	Topic       string
	Partition   int32
	Offset      int64
	LeaderEpoch int32
	Time        time.Time // the record's timestamp: set by the producer, or by the broker if the topic says so

	Attempt       int       // which run of the handler this is, from 1; a restart or a rebalance starts again at 1
	FirstFailedAt time.Time // when an attempt first failed; zero in attempt 1

	Record record.Record // the bytes as they came: a nil key is no key, a nil value a tombstone

	id    outbox.EventID // the key of the inbox row
	named bool           // the record has an id of its own
}

// newMessage decodes a record. Without an error the message is complete but for Attempt and FirstFailedAt; with one it still has everything
// that is not part of the event, and its id, which is what a dead letter needs.
func newMessage(rec *kgo.Record) (*Message, error) {
	id, text, named := identify(rec)
	m := &Message{
		Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, LeaderEpoch: rec.LeaderEpoch, Time: rec.Timestamp,
		Record: record.Record{Topic: rec.Topic, Key: rec.Key, Value: rec.Value, Headers: make([]record.Header, len(rec.Headers), len(rec.Headers)+1)},
		id:     id,
		named:  named,
	}
	for i, h := range rec.Headers {
		m.Record.Headers[i] = record.Header{Key: h.Key, Value: h.Value}
	}
	headers := m.Record.Headers
	if !named {
		headers = append(headers, record.Header{Key: record.HeaderID, Value: []byte(text)})
	}
	decoded, err := record.Decode(rec.Key, rec.Value, headers)
	m.Message = decoded
	m.ID = text
	return m, err
}
