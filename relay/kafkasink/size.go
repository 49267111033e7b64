package kafkasink

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/relay"
)

// refuseTooLarge halts for the first event that no batch can hold, before anything of its batch leaves. The client refuses such a record too, but from a
// goroutine of its own, while the flush already sends what lies behind it.
func (p *publisher) refuseTooLarge(events []relay.Event) error {
	limit, ok := p.client.OptValue(kgo.ProducerBatchMaxBytesFn).(func(string) int32)
	if !ok {
		return nil
	}
	for i := range p.records {
		rec := &p.records[i]
		if size, most := batchOfOne(rec), int(limit(rec.Topic)); size > most {
			return classify(&events[i], fmt.Errorf("%w: a batch of it alone has %d bytes, the producer's limit is %d", kerr.MessageTooLarge, size, most))
		}
	}
	return nil
}

// batchOfOne is the size of a record batch that holds rec alone, uncompressed, as the client counts it: with a byte for the batch's own length.
// The layout: https://kafka.apache.org/documentation/#recordbatch.
func batchOfOne(rec *kgo.Record) int {
	const batchHeader = 61 + 1
	n := 3 // attributes, and a byte each for the deltas of time and offset, which are zero
	n += sized(rec.Key) + sized(rec.Value) + kbin.VarintLen(int32(len(rec.Headers)))
	for i := range rec.Headers {
		n += sized(rec.Headers[i].Key) + sized(rec.Headers[i].Value)
	}
	return batchHeader + kbin.VarintLen(int32(n)) + n
}

// sized is the size of b with its length before it; nil has the length -1, of one byte like that of zero.
func sized[T string | []byte](b T) int { return kbin.VarintLen(int32(len(b))) + len(b) }
