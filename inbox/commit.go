package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	commitInterval = time.Second
	commitLimit    = 5 * time.Second // for Kafka's answer; what was not committed in time is by the next tick
)

// A surrender asks the committer to let go of partitions. Everything about offsets goes through the one goroutine of the committer because
// of this:
//
//   - the tick notes that partition 0 is done up to 50 and is about to commit that
//   - partition 0 is revoked; its last messages end; 60 is committed; another member gets it, and commits 70
//   - the tick's commit goes out, under our new generation, and Kafka takes it: 50
//
// With one goroutine the tick's commit is over before the surrender's begins, and after the surrender no tick knows the partition.
type surrender struct {
	parts  []*partition
	commit bool // false: they were lost, Kafka would refuse
	done   chan error
}

// commitLoop is the role of the committer: every second, and on each surrender, it commits the frontier of each partition.
func (r *run) commitLoop(ctx context.Context) error {
	defer close(r.committerGone)
	tick := time.NewTicker(commitInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			err := r.keepUp(ctx, r.held())
			if errors.Is(err, errNewHistory) {
				return err
			}
			if err != nil {
				r.cfg.Logger.Warn("offsets were not committed; the next tick tries again", "group", r.cfg.Group, "error", err)
			}
			r.reportLag()
		case s := <-r.surrenders:
			var err error
			if s.commit {
				err = r.commit(ctx, s.parts, uncommitted(s.parts))
			}
			r.forget(s.parts)
			s.done <- err
		}
	}
}

// surrender commits what is done of some partitions, unless they were lost, and forgets them. It returns when no later commit can name
// them.
func (r *run) surrender(parts []*partition, commit bool) error {
	s := surrender{parts: parts, commit: commit, done: make(chan error, 1)}
	select {
	case r.surrenders <- s:
	case <-r.committerGone:
		return errors.New("the committer has ended")
	}
	select {
	case err := <-s.done:
		return err
	case <-r.committerGone:
		return errors.New("the committer has ended")
	}
}

// keepUp commits and, where that did not ask the database or went wrong, finds out whether it still has what was committed before. That it does not
// answer then is not said again.
func (r *run) keepUp(ctx context.Context, parts []*partition) error {
	offsets := uncommitted(parts)
	err := r.commit(ctx, parts, offsets)
	if len(parts) == 0 || len(offsets) > 0 && err == nil || errors.Is(err, errNewHistory) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	if look := r.store.inHistory(ctx, checkHistorySQL); errors.Is(look, errNewHistory) {
		return look
	}
	return err
}

// uncommitted are the frontiers that Kafka does not have yet.
func uncommitted(parts []*partition) map[string]map[int32]kgo.EpochOffset {
	offsets := make(map[string]map[int32]kgo.EpochOffset)
	for _, p := range parts {
		if at, ok := p.uncommitted(); ok {
			if offsets[p.topic] == nil {
				offsets[p.topic] = make(map[int32]kgo.EpochOffset)
			}
			offsets[p.topic][p.number] = at
		}
	}
	return offsets
}

// commit sends frontiers that Kafka does not have yet, those of parts, when the database has them as positions: what PostgreSQL loses is always the end of its
// log, so if a position is there, so is every effect below it. A frontier never goes back during an assignment, so neither does the offset.
// Each comes with the leader epoch of the record before it, by which the next owner finds out whether the log was truncated below.
func (r *run) commit(ctx context.Context, parts []*partition, offsets map[string]map[int32]kgo.EpochOffset) error {
	if len(offsets) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitLimit)
	defer cancel()
	start := time.Now()
	if err := r.store.advance(ctx, r.positionsOf(offsets)); err != nil {
		r.observe.committed(time.Since(start), err)
		return err
	}
	refused := make(map[string]map[int32]bool)
	var errs []error
	r.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		if errs, refused = refusals(resp, err); err != nil {
			refused = nil
		}
	})
	err := errors.Join(errs...)
	r.observe.committed(time.Since(start), err)
	for _, p := range parts {
		if at, ok := offsets[p.topic][p.number]; ok && refused != nil && !refused[p.topic][p.number] {
			p.committed(at.Offset)
		}
	}
	return err
}

// refusals lists what Kafka did not take.
func refusals(resp *kmsg.OffsetCommitResponse, err error) (errs []error, refused map[string]map[int32]bool) {
	if err != nil {
		return []error{fmt.Errorf("commit offsets: %w", err)}, nil
	}
	refused = make(map[string]map[int32]bool)
	for _, t := range resp.Topics {
		refused[t.Topic] = make(map[int32]bool)
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				errs = append(errs, fmt.Errorf("commit offset of %s/%d: %w", t.Topic, p.Partition, err))
				refused[t.Topic][p.Partition] = true
			}
		}
	}
	return errs, refused
}

func (r *run) reportLag() {
	if r.observe.lag == nil {
		return
	}
	now := time.Now()
	var lags []Lag
	for _, p := range r.held() {
		if lag, known := p.lag(now); known || !r.pauser.isPaused(p) {
			lags = append(lags, lag)
		}
	}
	r.observe.lag.Lag(lags)
}
