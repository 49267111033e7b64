package kafkasink

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// met are the topics that a client has published to.
type met map[string]bool

// settle waits until the client has taken in the topics that it met in this transaction. It lets their first records go a moment before that, and when
// the transaction ends in between, which gives the producer a new epoch, kgo 1.22.2 does not set the sequence numbers of those partitions back: the
// client's next transaction would fail with OUT_OF_ORDER_SEQUENCE_NUMBER, and the relay begin anew. (In kgo: storePartitionsUpdate lets go and then
// stores; resetAllProducerSequences visits what is stored.)
func (m met) settle(ctx context.Context, client *kgo.Client, records []kgo.Record, mark *kgo.Record) error {
	if err := m.await(ctx, client, mark); err != nil {
		return err
	}
	for i := range records {
		if err := m.await(ctx, client, &records[i]); err != nil {
			return err
		}
	}
	return nil
}

func (m met) await(ctx context.Context, client *kgo.Client, rec *kgo.Record) error {
	if m[rec.Topic] {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, transactionTimeout)
	defer cancel()
	for {
		// An error is one of before: the record was written, so the topic is there.
		if leader, _, _ := client.PartitionLeader(rec.Topic, rec.Partition); leader >= 0 {
			m[rec.Topic] = true
			return nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("wait until the client has taken in topic %s: %w", rec.Topic, err)
		}
	}
}
