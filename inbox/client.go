package inbox

import (
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"
)

// clientOptions are the settings of the Kafka client; those that the guarantees rest on stand last and win.
func (r *run) clientOptions() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.WithLogger(clientLog{r.cfg.Logger}),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchMaxBytes(16 << 20), // the dead-letter topic's own limit decides what is too large
	}
	if len(r.cfg.Brokers) > 0 {
		opts = append(opts, kgo.SeedBrokers(r.cfg.Brokers...))
	}
	opts = append(opts, r.cfg.ClientOptions...)
	return append(opts,
		kgo.ConsumerGroup(r.cfg.Group),
		kgo.ConsumeTopics(r.cfg.Topics...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // so that the frontier passes a marker at the end of the log

		// A group that has no offset begins at the beginning. A group whose offset is not in the log any more stops and says so.
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),

		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.OnPartitionsAssigned(r.assigned),
		kgo.OnPartitionsRevoked(r.revoked),
		kgo.OnPartitionsLost(r.lost),
		kgo.AdjustFetchOffsetsFn(r.reconcile),

		// A dead letter goes to the partition it came from, modulo the topic's number of them, and counts when all replicas have it.
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
			return func(rec *kgo.Record, n int) int { return int(rec.Partition) % n }
		})),
	)
}

// clientLog passes the client's own log on. What it calls informational is of no interest to an operator.
type clientLog struct{ log *slog.Logger }

func (clientLog) Level() kgo.LogLevel { return kgo.LogLevelInfo }

func (l clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level <= kgo.LogLevelWarn {
		l.log.Warn("kafka client: "+msg, keyvals...)
		return
	}
	l.log.Debug("kafka client: "+msg, keyvals...)
}
