package inbox_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
)

// BenchmarkConsumer is the whole way of a message, from the broker through one transaction with one insert to its offset, beside the same
// transactions without an inbox, by as many goroutines as the consumer has workers.
func BenchmarkConsumer(b *testing.B) {
	const workers = 16
	pool := pgtest.Pool(b, pgtest.Migrated(b)+"&pool_max_conns=20")
	if _, err := pool.Exec(b.Context(), "create table effects (n bigserial primary key, msg_id text, key text, value text)"); err != nil {
		b.Fatal(err)
	}
	b.Run("inbox", func(b *testing.B) { consume(b, pool, workers) })
	b.Run("without", func(b *testing.B) {
		m := &inbox.Message{Message: record.Message{ID: newID(), Key: "a", Payload: []byte(`{"n":1}`)}}
		var group errgroup.Group
		group.SetLimit(workers)
		b.ReportAllocs()
		for b.Loop() {
			group.Go(func() error {
				return pgx.BeginFunc(b.Context(), pool, func(tx pgx.Tx) error { return effect(b.Context(), tx, m) })
			})
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
	})
}

func consume(b *testing.B, pool *pgxpool.Pool, workers int) {
	kafka := kafkatest.Start(b)
	kafka.CreateTopic(b, topic, 4)
	records := make([]*kgo.Record, b.N)
	for i := range records {
		records[i] = event{id: newID(), key: fmt.Sprint(i % 1000), value: `{"n":1}`, partition: int32(i % 4)}.record()
	}
	producer := kafka.Client(b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := producer.ProduceSync(b.Context(), records...).FirstErr(); err != nil {
		b.Fatal(err)
	}
	applied := make(chan struct{}, b.N)
	c, err := inbox.New(pool, inbox.Config{
		Brokers: kafka.Brokers, Group: group, Topics: []string{topic}, Concurrency: workers,
		Handlers: map[string]inbox.TxHandler{topic: func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			applied <- struct{}{}
			return effect(ctx, tx, m)
		}},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	for range b.N {
		<-applied
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}
