package kafkasink

import (
	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kgo"
)

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
