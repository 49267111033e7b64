package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// maxPoll bounds how long one dispatch holds a rebalance up (about a millisecond) and how far a poll may exceed a window.
const maxPoll = 1000

// poll is the role that reads. It never waits for a handler: what it read is queued, and a window that is full stops the reading of its
// partition alone. Rebalances are held up only while it dispatches.
func (r *run) poll(ctx context.Context) error {
	defer r.client.AllowRebalance()
	var scratch []*lane
	for {
		fetches := r.client.PollRecords(ctx, maxPoll)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return nil // what was read is not tracked, hence read again
		}
		var errs []error
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			var err error
			if scratch, err = r.dispatch(f, scratch[:0]); err != nil {
				errs = append(errs, err)
			}
		})
		r.client.AllowRebalance()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
}

// dispatch queues what was read of one partition.
func (r *run) dispatch(f kgo.FetchTopicPartition, scratch []*lane) ([]*lane, error) {
	if f.Err != nil {
		return scratch, r.fetchFailed(f)
	}
	r.mu.Lock()
	p := r.parts[place{f.Topic, f.Partition}]
	r.mu.Unlock()
	if p == nil {
		return scratch, fmt.Errorf("records of %s/%d came before its assignment", f.Topic, f.Partition)
	}
	end := f.HighWatermark
	if f.LastStableOffset >= 0 {
		end = f.LastStableOffset
	}
	p.saw(end)
	ready, filled, err := p.add(f.Records, scratch)
	if err != nil {
		return ready, err
	}
	r.sched.push(p, ready)
	if filled {
		r.pauser.sync(p)
	}
	return ready, nil
}

// fetchFailed gives an error for what must stop the consumer. Everything else the client tries again by itself.
func (r *run) fetchFailed(f kgo.FetchTopicPartition) error {
	if err := endsReading(r.cfg.Group, f); err != nil {
		return err
	}
	r.warnDisturbed(f)
	return nil
}

// endsReading gives an error for what a restart would meet again and what going on would skip messages for; nil for what the client tries
// again by itself.
func endsReading(group string, f kgo.FetchTopicPartition) error {
	err := f.Err
	session, inSession := errors.AsType[*kgo.ErrGroupSession](err)
	lost, isLoss := errors.AsType[*kgo.ErrDataLoss](err)
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange):
		return fmt.Errorf("%s/%d: the offset of group %q is not in the log, which begins at %d and ends at %d: retention passed it, or the log was "+
			"truncated. Find out which messages are gone; then set the offset (kafka-consumer-groups.sh --group %s --topic %s:%d --reset-offsets "+
			"--to-earliest --execute) and start again, a consumer with a database once with position-mismatch trust-kafka: %w", f.Topic, f.Partition, group, f.LogStartOffset, f.HighWatermark,
			group, f.Topic, f.Partition, err)
	case isLoss:
		return fmt.Errorf("%s/%d: the log was truncated below what was consumed, to offset %d; compare the topic with its source before you "+
			"start again: %w", f.Topic, f.Partition, lost.ResetTo, err)
	case errors.Is(err, kerr.UnknownTopicID):
		return fmt.Errorf("%s/%d: the topic was deleted, or deleted and recreated, and the offsets of group %q belong to the old one. "+
			"Delete the group's offsets (kafka-consumer-groups.sh --group %s --topic %s --delete-offsets) and start again: %w",
			f.Topic, f.Partition, group, group, f.Topic, err)
	case inSession && !hopeless(session.Err), kerr.IsRetriable(err), kgo.IsRetryableBrokerErr(err):
		return nil
	}
	return fmt.Errorf("read %s/%d: %w", f.Topic, f.Partition, err)
}

// disturbedEvery is how often one disturbance is mentioned while it lasts; the client reports it with each of its tries.
const disturbedEvery = 10 * time.Second

// warnDisturbed is called by the reader only.
func (r *run) warnDisturbed(f kgo.FetchTopicPartition) {
	what := place{f.Topic, f.Partition}
	if time.Since(r.disturbed[what]) < disturbedEvery {
		return
	}
	r.disturbed[what] = time.Now()
	r.cfg.Logger.Warn("reading is disturbed; the client tries again", "group", r.cfg.Group, "topic", f.Topic, "partition", f.Partition, "error", f.Err)
}

// hopeless reports a refusal by the group's coordinator that asking again does not change.
func hopeless(err error) bool {
	for _, final := range []error{
		kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.SaslAuthenticationFailed,
		kerr.InvalidGroupID, kerr.InvalidSessionTimeout, kerr.InconsistentGroupProtocol, kerr.GroupMaxSizeReached, kerr.FencedInstanceID,
		kerr.UnsupportedVersion,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}
