package devstack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	cutOffTail    = 1000 // records of a partition among which the last one of an open transaction is
	cutOffTimeout = 20 * time.Second
)

// cutOff are the partitions in which a transaction is open, by producer.
type cutOff map[int64]kadm.TxnMarkers

// abortCutOff ends the transactions that were open when an earlier broker was killed. kfake takes them for aborted when it loads them, but writes that
// down nowhere: who looks for the end of the transaction, as walpost's relay does for its watermark, would wait for ever; and after another kill they
// would be taken for committed, as soon as the same producer has committed anything else.
//
// What it cannot mend: kfake ends a transaction in one partition after the other, and a kill between two of them commits it in one only.
func (b *Broker) abortCutOff(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, cutOffTimeout, fmt.Errorf("not within %s", cutOffTimeout))
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.FetchIsolationLevel(kgo.ReadUncommitted()), kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, from, err := tails(ctx, admin)
	if err != nil {
		return err
	}
	client.AddConsumePartitions(from)
	found := cutOff{}
	for len(ends) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			found.take(rec)
			if at := (partition{rec.Topic, rec.Partition}); rec.Offset+1 >= ends[at] {
				delete(ends, at)
			}
		})
	}
	for _, markers := range found {
		ended, err := admin.WriteTxnMarkers(ctx, markers)
		ended.EachPartition(func(p kadm.TxnMarkersPartitionResponse) { err = errors.Join(err, p.Err) })
		if err != nil {
			return fmt.Errorf("abort the transaction of producer %d: %w", markers.ProducerID, err)
		}
	}
	return nil
}

// tails are the ends of the partitions that hold anything, and where to begin with each.
func tails(ctx context.Context, admin *kadm.Client) (ends map[partition]int64, from map[string]map[int32]kgo.Offset, err error) {
	starts, err := admin.ListStartOffsets(ctx)
	if err != nil {
		return nil, nil, err
	}
	listed, err := admin.ListEndOffsets(ctx)
	if err != nil {
		return nil, nil, err
	}
	ends, from = make(map[partition]int64), make(map[string]map[int32]kgo.Offset)
	listed.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		if end.Offset <= start.Offset {
			return
		}
		if from[end.Topic] == nil {
			from[end.Topic] = make(map[int32]kgo.Offset)
		}
		ends[partition{end.Topic, end.Partition}] = end.Offset
		from[end.Topic][end.Partition] = kgo.NewOffset().At(max(start.Offset, end.Offset-cutOffTail))
	})
	return ends, from, nil
}

// take notes that a transaction is open in the record's partition, or has ended there.
func (c cutOff) take(rec *kgo.Record) {
	markers, open := c[rec.ProducerID]
	switch {
	case rec.Attrs.IsControl():
		if markers.Topics.Delete(rec.Topic, rec.Partition); len(markers.Topics) == 0 {
			delete(c, rec.ProducerID)
		}
	case rec.Attrs.IsTransactional():
		if !open {
			markers = kadm.TxnMarkers{ProducerID: rec.ProducerID, Topics: make(kadm.TopicsSet)}
		}
		markers.ProducerEpoch = rec.ProducerEpoch
		markers.Topics.Add(rec.Topic, rec.Partition)
		c[rec.ProducerID] = markers
	}
}
