package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
)

// toRecord takes what is judged out of a Kafka record. What it cannot read stays zero and so fails the comparison with what was written.
func toRecord(rec *kgo.Record) Record {
	r := Record{
		Topic: rec.Topic, Partition: rec.Partition, Offset: rec.Offset, Txn: Txn{rec.ProducerID, rec.ProducerEpoch}, Key: string(rec.Key), Sum: sum(rec.Value),
	}
	for _, h := range rec.Headers {
		switch h.Key {
		case record.HeaderID:
			r.ID = string(h.Value)
		case record.HeaderHeaders:
			var own map[string]string
			_ = json.Unmarshal(h.Value, &own)
			r.Version, _ = strconv.ParseInt(own[versionHeader], 10, 64)
		case record.HeaderLSN:
			r.Position.Commit, _ = record.ParseLSN(string(h.Value))
		case record.HeaderIndex:
			index, _ := strconv.ParseUint(string(h.Value), 10, 32)
			r.Position.Index = uint32(index)
		}
	}
	return r
}

// readAll returns the records of the topics up to their ends, by topic, partition and offset, markers of transactions included.
func (w *World) readAll(ctx context.Context, level kgo.IsolationLevel, topics ...string) ([]*kgo.Record, error) {
	left, err := w.ends(ctx, topics)
	if err != nil {
		return nil, err
	}
	start := kgo.NewOffset().AtStart()
	client, err := kgo.NewClient(append(directly(w.broker.Addr()), kgo.ConsumeTopics(topics...), kgo.ConsumeStartOffset(start), kgo.ConsumeResetOffset(start),
		kgo.FetchIsolationLevel(level), kgo.KeepControlRecords())...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var records []*kgo.Record
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read %v, %d partitions are left: %w", topics, len(left), context.Cause(ctx))
		}
		fetches.EachRecord(func(rec *kgo.Record) {
			records = append(records, rec)
			if at := (place{rec.Topic, rec.Partition}); rec.Offset+1 >= left[at] {
				delete(left, at)
			}
		})
	}
	slices.SortFunc(records, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return records, nil
}

// ends are the ends of the partitions that are not empty. The last record of each is a marker, or the topics would not be settled.
func (w *World) ends(ctx context.Context, topics []string) (map[place]int64, error) {
	listed, err := w.admin.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, err
	}
	ends := make(map[place]int64)
	listed.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			ends[place{o.Topic, o.Partition}] = o.Offset
		}
	})
	return ends, nil
}

// awaitSettled waits until no transaction is open on the topics: what a consumer of committed records finds then, it finds for ever.
func (w *World) awaitSettled(ctx context.Context, topics ...string) error {
	return await(ctx, serveLimit, "no transaction is open", func(ctx context.Context) error {
		ends, err := w.ends(ctx, topics)
		if err != nil {
			return err
		}
		stable, err := w.admin.ListCommittedOffsets(ctx, topics...)
		if err == nil {
			err = stable.Error()
		}
		for at, end := range ends {
			if o, _ := stable.Lookup(at.topic, at.partition); err == nil && o.Offset < end {
				err = fmt.Errorf("one is at offset %d of %s/%d, which ends at %d", o.Offset, at.topic, at.partition, end)
			}
		}
		return err
	})
}

// events are the records without the markers, and each is told whether the marker that ended its transaction was one of an abort.
func events(records []*kgo.Record) (list []Record, err error) {
	open := make(map[int64][]int) // by producer, of one partition: a producer has one transaction at a time
	var at place
	for _, rec := range records {
		if here := (place{rec.Topic, rec.Partition}); here != at {
			at, open = here, make(map[int64][]int)
		}
		if !rec.Attrs.IsControl() {
			open[rec.ProducerID] = append(open[rec.ProducerID], len(list))
			list = append(list, toRecord(rec))
			continue
		}
		aborted, markerErr := isAbort(rec)
		err = errors.Join(err, markerErr)
		for _, i := range open[rec.ProducerID] {
			list[i].Aborted = aborted
		}
		delete(open, rec.ProducerID)
	}
	return list, err
}

// isAbort reads the key of a marker: a version and a type, of two bytes each; type 0 is an abort, 1 a commit.
// https://kafka.apache.org/documentation/#controlbatch
func isAbort(rec *kgo.Record) (bool, error) {
	if len(rec.Key) < 4 {
		return false, fmt.Errorf("marker at offset %d of %s/%d has a key of %d bytes", rec.Offset, rec.Topic, rec.Partition, len(rec.Key))
	}
	return rec.Key[2] == 0 && rec.Key[3] == 0, nil
}

// readMarks returns the committed watermarks of the slot, and of no other.
func (w *World) readMarks(ctx context.Context, system, slot string) ([]Mark, error) {
	if err := w.awaitSettled(ctx, watermarkTopic); err != nil {
		return nil, err
	}
	records, err := w.readAll(ctx, kgo.ReadCommitted(), watermarkTopic)
	if err != nil {
		return nil, err
	}
	var marks []Mark
	for _, rec := range records {
		if rec.Attrs.IsControl() || string(rec.Key) != system+"/"+slot {
			continue
		}
		var value struct {
			Commit string `json:"commit_lsn"`
			Index  uint32 `json:"index"`
			ID     string `json:"event_id"`
			End    string `json:"end_lsn"`
		}
		if err := json.Unmarshal(rec.Value, &value); err != nil {
			return nil, fmt.Errorf("watermark at offset %d: %w", rec.Offset, err)
		}
		m := Mark{Offset: rec.Offset, Txn: Txn{rec.ProducerID, rec.ProducerEpoch}, EventID: value.ID}
		var commitErr, endErr error
		m.Position.Index = value.Index
		m.Position.Commit, commitErr = record.ParseLSN(value.Commit)
		m.End, endErr = record.ParseLSN(value.End)
		if err := errors.Join(commitErr, endErr); err != nil {
			return nil, fmt.Errorf("watermark at offset %d: %w", rec.Offset, err)
		}
		marks = append(marks, m)
	}
	return marks, nil
}
