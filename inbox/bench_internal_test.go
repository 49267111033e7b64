package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// BenchmarkDispatch is the cost of a message between the poll and the handler and between the handler and the frontier: tracker, lane,
// scheduler, context. Keys are Zipf-distributed, because with all keys distinct the order costs nothing. Aim: 2 µs and 1 KB a message.
func BenchmarkDispatch(b *testing.B) {
	for _, workers := range []int{1, 16} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			zipf := rand.NewZipf(rand.New(rand.NewPCG(1, 2)), 1.1, 1, 9_999)
			const poll = 500
			records := make([]*kgo.Record, b.N)
			for i := range records {
				records[i] = &kgo.Record{Offset: int64(i), Key: fmt.Appendf(nil, "key-%d", zipf.Uint64()), Value: make([]byte, 8)}
			}
			s := newScheduler(workers, RetryPolicy{}, func() {})
			p := newPartition("t", 0, 1, Window{Records: 1 << 30, Bytes: 1 << 40}, s.push)
			s.add(p)
			ended := make(chan struct{})
			var settled atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			for range workers {
				go func() {
					for l := s.take(); l != nil; l = s.take() {
						if _, _, ok := p.begin(context.Background(), l); !ok {
							b.Error("begin refused")
						}
						more, _ := p.settle(l)
						s.release(l, healthy, false)
						if more {
							s.push(p, []*lane{l})
						}
						if settled.Add(1) == int64(b.N) {
							s.close()
						}
					}
					ended <- struct{}{}
				}()
			}
			var ready []*lane
			for len(records) > 0 {
				n := min(poll, len(records))
				ready, _, _ = p.add(records[:n], ready[:0])
				s.push(p, ready)
				records = records[n:]
			}
			for range workers {
				<-ended
			}
		})
	}
}
