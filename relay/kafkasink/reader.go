package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/relay"
)

const (
	// readTimeout bounds reading the watermark.
	readTimeout = 2 * time.Minute

	// tail is how many records are looked at first; ten times as many whenever the watermark is not among them.
	tail = 1000
)

// ErrGarbled says that a slot's watermark is none: somebody else has written to the topic.
var ErrGarbled = errors.New("not a watermark of walpost")

// lookup is what was found for an origin.
type lookup struct {
	kept
	value     []byte // as it was written
	ok        bool
	elsewhere []string // other systems with a watermark for a slot of the same name; only complete if there is none for this one
}

// read finds the newest committed watermark of the origin. After the ring was taken over, it is the last one for ever.
//
// What the origin's own publishers wrote is decided by then, but a transaction of another relay may be open on the topic and hide it. So read first
// waits until everything that is there is decided.
func (s store) read(ctx context.Context) (lookup, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	begin, err := s.offset(ctx, s.admin.ListStartOffsets)
	if err != nil {
		return lookup{}, err
	}
	end, err := s.settled(ctx)
	if err != nil {
		return lookup{}, err
	}
	for window := int64(tail); ; window *= 10 {
		from := max(begin, end-window)
		found, err := s.scan(ctx, from, end)
		if err != nil || found.ok || from == begin {
			return found, err
		}
	}
}

// offset is an offset of the partition, by one of kadm's lists.
func (s store) offset(ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error)) (int64, error) {
	listed, err := list(ctx, s.topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return 0, s.classify(fmt.Errorf("look at topic %s: %w", s.topic, err))
	}
	of, ok := listed.Lookup(s.topic, watermarkPartition)
	if !ok {
		return 0, fmt.Errorf("look at topic %s partition %d: %w", s.topic, watermarkPartition, missing(ok))
	}
	return of.Offset, nil
}

// settled returns the end of the topic, when all transactions below it are decided.
func (s store) settled(ctx context.Context) (int64, error) {
	end, err := s.offset(ctx, s.admin.ListEndOffsets)
	if err != nil {
		return 0, err
	}
	waiting, cancel := context.WithTimeout(ctx, s.sink.ring.settle)
	defer cancel()
	for {
		stable, err := s.offset(ctx, s.admin.ListCommittedOffsets)
		if err != nil {
			return 0, err
		}
		if stable >= end {
			return end, nil
		}
		if pause(waiting, lookEvery) == nil {
			continue
		}
		if ctx.Err() == nil {
			return 0, s.unusable(fmt.Errorf("a transaction of somebody else has been open at offset %d of topic %s for %v and hides the watermark", stable, s.topic, s.sink.ring.settle),
				fmt.Sprintf("kafka-transactions.sh find-hanging --topic %s, and abort it; then start the relay again", s.topic))
		}
		return 0, ctx.Err()
	}
}

// scan reads the records from an offset to the end. The last of them may be the marker of a transaction or the record of an aborted one, which a
// consumer is not shown unless it asks for control records: waiting for it would take for ever.
func (s store) scan(ctx context.Context, from, end int64) (found lookup, err error) {
	if from >= end {
		return found, nil
	}
	start := kgo.NewOffset().At(from)
	client, err := kgo.NewClient(append(s.sink.options[:len(s.sink.options):len(s.sink.options)],
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{s.topic: {watermarkPartition: start}}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
	)...)
	if err != nil {
		return found, fmt.Errorf("kafka client: %w", err)
	}
	defer client.Close()
	for next := from; next < end; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return found, fmt.Errorf("read topic %s from offset %d to %d: %w", s.topic, next, end, ctx.Err())
		}
		for _, e := range fetches.Errors() {
			err = errors.Join(err, e.Err)
		}
		if err != nil {
			return found, s.classify(fmt.Errorf("read topic %s: %w", s.topic, err))
		}
		for _, rec := range fetches.Records() {
			next = rec.Offset + 1
			if rec.Offset < end && !rec.Attrs.IsControl() {
				found.take(s.origin, rec)
			}
		}
	}
	if !found.ok {
		return found, nil
	}
	if found.kept, err = decodeWatermark(found.value); err != nil {
		return found, s.unusable(fmt.Errorf("topic %s: %w: %w", s.topic, ErrGarbled, err), "find out who else writes to the topic; "+s.adopt())
	}
	if ours := s.sink.ring.size; found.Ring > ours {
		return found, s.unusable(fmt.Errorf("the watermark was written with a ring of %d transactional ids, and this version knows %d", found.Ring, ours),
			"use the version of walpost that wrote it, or a later one")
	}
	return found, nil
}

// take takes over a newer record.
func (l *lookup) take(o relay.Origin, rec *kgo.Record) {
	key := string(rec.Key)
	if key == watermarkKey(o) {
		l.value, l.ok = rec.Value, rec.Value != nil
		return
	}
	if system, slot, _ := strings.Cut(key, "/"); slot == o.Slot && !slices.Contains(l.elsewhere, system) {
		l.elsewhere = append(l.elsewhere, system)
	}
}
