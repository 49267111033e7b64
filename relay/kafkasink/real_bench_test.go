package kafkasink_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
)

// payload is a value of 427 bytes that begins with n.
func payload(n int) []byte {
	return []byte(fmt.Sprintf("%-12d", n) + strings.Repeat("x", 415))
}

// contestant is a way to publish.
type contestant struct {
	name string
	open func(b *testing.B, brokers []string) relay.Publisher
}

func contestants() []contestant {
	exactly := func(ring int) func(*testing.B, []string) relay.Publisher {
		return func(b *testing.B, brokers []string) relay.Publisher {
			sink := exactlyOnce(b, brokers)
			sink.SetRing(ring, time.Minute)
			begin, _ := slotOf(fmt.Sprintf("ring%d_%d", ring, time.Now().UnixNano()))
			return mustOpen(b, sink, begin).Publisher
		}
	}
	atLeast := func(b *testing.B, brokers []string) relay.Publisher {
		return open(b, kafkasink.Config{Brokers: brokers, Delivery: relay.AtLeastOnce})
	}
	return []contestant{{"one id", exactly(1)}, {"ring of 16", exactly(16)}, {"at least once", atLeast}}
}

// BenchmarkLatencyOnRealKafka publishes 1,000 events a second for a second an iteration, and measures from an event's making to a consumer of committed
// records.
func BenchmarkLatencyOnRealKafka(b *testing.B) {
	brokers := realKafka(b)
	p50, p99 := map[string]float64{}, map[string]float64{}
	for _, c := range contestants() {
		b.Run(c.name, func(b *testing.B) {
			p := c.open(b, brokers)
			latencies(b, p, brokers, 500) // warm
			var took []time.Duration
			for b.Loop() {
				took = append(took, latencies(b, p, brokers, 1000)...)
			}
			slices.Sort(took)
			p50[c.name], p99[c.name] = ms(took[len(took)/2]), ms(took[len(took)*99/100])
			b.ReportMetric(p50[c.name], "p50-ms")
			b.ReportMetric(p99[c.name], "p99-ms")
			b.ReportMetric(ms(took[len(took)-1]), "max-ms")
		})
	}
	fmt.Fprintf(os.Stdout, "counts: latency, one id to ring of 16: p50 %.1f x, p99 %.1f x; ring of 16 to at least once: p50 %.1f x, p99 %.1f x\n",
		p50["one id"]/p50["ring of 16"], p99["one id"]/p99["ring of 16"],
		p50["ring of 16"]/p50["at least once"], p99["ring of 16"]/p99["at least once"])
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// latencies publishes n events, one a millisecond, as a relay does: whatever came while a batch was published is the next batch.
func latencies(b *testing.B, p relay.Publisher, brokers []string, n int) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ConsumeTopics("things"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtEnd()), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	if err != nil {
		b.Fatal(err)
	}
	defer consumer.Close()
	ready := make([]*kgo.Record, 0, 3) // the consumer stands at the end of each partition when it has seen a record of each
	for i := range int32(3) {
		ready = append(ready, &kgo.Record{Topic: "things", Partition: i, Value: []byte("ready")})
	}
	awaitReady(ctx, b, consumer, brokers, ready)
	made := make([]time.Time, n)
	queue := make(chan relay.Event, n)
	go func() {
		defer close(queue)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		begin := time.Now()
		for i := 0; i < n; {
			<-tick.C
			for now := time.Now(); i < n && now.Sub(begin) >= time.Duration(i)*time.Millisecond; i++ {
				made[i] = now
				ev := event(i, fmt.Sprint("key", i), "")
				ev.Record.Value = payload(i)
				queue <- ev
			}
		}
	}()
	failed := make(chan error, 1)
	go func() { failed <- publishAll(ctx, p, queue) }()
	took := make([]time.Duration, 0, n)
	for len(took) < n {
		fetches := consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			b.Fatalf("%d of %d events came: %v", len(took), n, ctx.Err())
		}
		now := time.Now()
		fetches.EachRecord(func(rec *kgo.Record) {
			if i, err := strconv.Atoi(strings.TrimSpace(string(rec.Value[:min(12, len(rec.Value))]))); err == nil {
				took = append(took, now.Sub(made[i]))
			}
		})
	}
	if err := <-failed; err != nil {
		b.Fatal(err)
	}
	return took
}

func awaitReady(ctx context.Context, b *testing.B, consumer *kgo.Client, brokers []string, ready []*kgo.Record) {
	b.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	seen := map[int32]bool{}
	for len(seen) < len(ready) {
		if err := producer.ProduceSync(ctx, ready...).FirstErr(); err != nil {
			b.Fatal(err)
		}
		polling, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		consumer.PollFetches(polling).EachRecord(func(rec *kgo.Record) { seen[rec.Partition] = true })
		cancel()
	}
}

func publishAll(ctx context.Context, p relay.Publisher, queue <-chan relay.Event) error {
	var batch []relay.Event
	for ev := range queue {
		batch = append(batch[:0], ev)
		for waiting := len(queue); waiting > 0; waiting-- {
			batch = append(batch, <-queue)
		}
		if err := publishBatch(ctx, p, batch); err != nil {
			return err
		}
	}
	return nil
}

func publishBatch(ctx context.Context, p relay.Publisher, batch []relay.Event) error {
	last := batch[len(batch)-1]
	return p.Publish(ctx, batch, relay.Watermark{Timeline: 1, Position: last.Position, EventID: last.ID(), End: last.Position.Commit + 1})
}

// BenchmarkDrainOnRealKafka publishes a backlog in batches of 4,000 events.
func BenchmarkDrainOnRealKafka(b *testing.B) {
	const size = 4000
	brokers := realKafka(b)
	batch := make([]relay.Event, size)
	for i := range batch {
		batch[i] = event(i, fmt.Sprint("key", i), "")
		batch[i].Record.Value = payload(i)
	}
	rate := map[string]float64{}
	for _, c := range contestants()[1:] {
		b.Run(c.name, func(b *testing.B) {
			p := c.open(b, brokers)
			for range 10 { // warm
				if err := publishBatch(b.Context(), p, batch); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if err := publishBatch(b.Context(), p, batch); err != nil {
					b.Fatal(err)
				}
			}
			rate[c.name] = float64(b.N*size) / b.Elapsed().Seconds()
			b.ReportMetric(rate[c.name], "events/s")
		})
	}
	fmt.Fprintf(os.Stdout, "counts: drain, exactly once to at least once: %.2f\n", rate["ring of 16"]/rate["at least once"])
}
