package inbox

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// cancelGrace is how long a handler may take to return after its context ended.
const cancelGrace = 3 * time.Second

// place is a topic's partition.
type place struct {
	topic  string
	number int32
}

// The three callbacks below run one at a time and never during a dispatch (BlockRebalanceOnPoll), but beside the workers and the committer.
// The client goes on sending heartbeats meanwhile.

// assigned begins an assignment of each partition.
func (r *run) assigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	r.callback("assignment", func() {
		var parts []*partition
		r.mu.Lock()
		for topic, numbers := range added {
			for _, number := range numbers {
				r.assignments++
				p := newPartition(topic, number, r.assignments, r.cfg.Window, r.sched.push)
				r.parts[place{topic, number}] = p
				parts = append(parts, p)
			}
		}
		held := len(r.parts)
		r.mu.Unlock()
		for _, p := range parts {
			r.sched.add(p)
		}
		r.pauser.sync(parts...)
		r.ready(nil)
		r.rebalanced(Assigned, parts, held, 0)
	})
}

// revoked ends assignments in good order: nothing new starts, what runs may finish, what is done is committed. What was read and not yet
// started is dropped: the next owner reads it again.
func (r *run) revoked(_ context.Context, cl *kgo.Client, gone map[string][]int32) {
	r.callback("revocation", func() {
		parts := r.find(gone)
		if len(parts) == 0 {
			return
		}
		start := time.Now()
		if n := r.letGo(parts, r.revokeDrain(cl)); n > 0 {
			r.cfg.Logger.Warn("handlers did not finish before their partitions had to be given up; their messages will be delivered again",
				"handlers", n, "after", time.Since(start))
		}
		if err := r.surrender(parts, true); err != nil {
			r.cfg.Logger.Warn("the last offsets of revoked partitions were not committed; their messages will be delivered again and counted as duplicates",
				"error", err)
		}
		r.rebalanced(Revoked, parts, len(r.held()), time.Since(start))
	})
}

// lost ends assignments that are already somebody else's: Kafka would refuse a commit. A handler whose transaction is about to commit may
// still do so, and the next owner then finds the inbox row.
func (r *run) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	r.callback("loss", func() {
		r.ready(errNotJoined)
		parts := r.find(gone)
		if len(parts) == 0 {
			return
		}
		start := time.Now()
		for _, p := range parts {
			p.stop()
			p.cancel()
			r.sched.remove(p)
		}
		r.pauser.sync(parts...)
		if err := r.surrender(parts, false); err != nil {
			r.cfg.Logger.Debug("committer did not answer", "error", err)
		}
		r.rebalanced(Lost, parts, len(r.held()), time.Since(start))
	})
}

// letGo stops partitions and returns when nothing of them is running any more: by itself within drain, or cancelled, which it counts. A
// handler that ignores its context is left behind.
func (r *run) letGo(parts []*partition, drain time.Duration) (cancelled int) {
	for _, p := range parts {
		p.stop()
		r.sched.remove(p)
	}
	r.pauser.sync(parts...)
	if await(parts, drain) {
		return 0
	}
	for _, p := range parts {
		cancelled += p.cancel()
	}
	await(parts, cancelGrace)
	return cancelled
}

// await waits until nothing is running in any of the partitions, which are stopped.
func await(parts []*partition, limit time.Duration) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for _, p := range parts {
		select {
		case <-p.stop():
		default:
			select {
			case <-p.stop():
			case <-timeout.C:
				return false
			}
		}
	}
	return true
}

// revokeDrain leaves two thirds of the group's rebalance timeout for the rest: a member that overruns it is thrown out, with all its
// partitions.
func (r *run) revokeDrain(cl *kgo.Client) time.Duration {
	drain := min(r.cfg.Drain, maxRevokeDrain)
	if timeout, ok := cl.OptValue(kgo.RebalanceTimeout).(time.Duration); ok {
		drain = min(drain, timeout/3)
	}
	return drain
}

func (r *run) find(partitions map[string][]int32) (parts []*partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, numbers := range partitions {
		for _, number := range numbers {
			if p := r.parts[place{topic, number}]; p != nil {
				parts = append(parts, p)
			}
		}
	}
	return parts
}

// held are the partitions of all present assignments.
func (r *run) held() []*partition {
	r.mu.Lock()
	defer r.mu.Unlock()
	parts := make([]*partition, 0, len(r.parts))
	for _, p := range r.parts {
		parts = append(parts, p)
	}
	slices.SortFunc(parts, func(a, b *partition) int { return int(a.epoch) - int(b.epoch) })
	return parts
}

// forget is called by the committer only.
func (r *run) forget(parts []*partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range parts {
		if at := (place{p.topic, p.number}); r.parts[at] == p {
			delete(r.parts, at)
		}
	}
}

func (r *run) rebalanced(kind Rebalance, parts []*partition, held int, took time.Duration) {
	r.observe.rebalanced(kind, len(parts), held, took)
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.String()
	}
	r.cfg.Logger.Info("rebalance", "group", r.cfg.Group, "kind", string(kind), "partitions", names, "held", held, "took", took)
}
