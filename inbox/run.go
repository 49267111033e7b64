package inbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const leaveLimit = 3 * time.Second // for telling the group; without it the others wait for the session timeout

// run is one call of Consumer.Run. Its roles, each a goroutine: one reads, one commits, one buries, two look at the topics, Concurrency of
// them work; the client calls back on rebalances. Whoever fails ends them all.
type run struct {
	cfg      Config
	client   *kgo.Client
	store    *store
	sched    *scheduler
	pauser   *pauser
	observe  observers
	fail     context.CancelCauseFunc
	die      context.CancelFunc // breaks off whatever the client is doing
	nameless sync.Map           // topics that were warned about
	burials  *burials

	disturbed map[place]time.Time // the reader's: when it last warned of a partition

	begun         chan struct{} // closed when everything above is set; the client may call back before
	surrenders    chan surrender
	committerGone chan struct{}

	mu          sync.Mutex // protects what follows
	parts       map[place]*partition
	assignments uint64
	topicIDs    map[string]kadm.TopicID // of the topics that partitions were assigned of
	ending      bool
	tell        func(error) // the answer of Consumer.Ready
}

func newRun(ctx context.Context, c *Consumer, consumer int16) (*run, error) {
	o := newObservers(c.cfg.Observer)
	r := &run{
		cfg: c.cfg, observe: o, store: newStore(c.pool, consumer, c.cfg.HandlerTimeout, o),
		burials: newBurials(), begun: make(chan struct{}), surrenders: make(chan surrender), committerGone: make(chan struct{}),
		parts: make(map[place]*partition), topicIDs: make(map[string]kadm.TopicID),
		tell: c.setReady, disturbed: make(map[place]time.Time),
	}
	if most := int(c.pool.Config().MaxConns); r.cfg.Concurrency > most {
		r.cfg.Logger.Warn("the pool has fewer connections than Concurrency asks for; raise pool_max_conns",
			"pool_max_conns", most, "concurrency", r.cfg.Concurrency)
		r.cfg.Concurrency = most
	}
	r.sched = newScheduler(r.cfg.Concurrency, r.cfg.Retry, func() { r.pauser.sync(r.held()...) })
	r.pauser = &pauser{shut: r.sched.isShut, observe: o.pause}
	var err error
	alive, die := context.WithCancel(context.WithoutCancel(ctx)) // the client has its own end
	if r.client, err = kgo.NewClient(append(r.clientOptions(), kgo.WithContext(alive))...); err != nil {
		die()
		return nil, err
	}
	r.die, r.pauser.client = die, r.client
	return r, nil
}

// until consumes until ctx ends or a role fails, and then takes everything down in order: no new work, running handlers, offsets, group,
// client, committer.
func (r *run) until(parent context.Context) error {
	ctx, fail := context.WithCancelCause(parent)
	defer fail(nil)
	r.fail = fail
	close(r.begun)
	base, release := context.WithCancel(context.WithoutCancel(parent)) // outlives ctx: what is running may finish
	defer release()

	var polling, committing, burying, working sync.WaitGroup
	polling.Go(func() { r.role("reader", func() error { return r.poll(ctx) }) })
	polling.Go(func() { r.role("inspector", func() error { return r.inspect(ctx) }) })
	polling.Go(func() { r.role("lookout", func() error { return r.lookAhead(ctx) }) })
	committing.Go(func() { r.role("committer", func() error { return r.commitLoop(base) }) })
	burying.Go(func() { r.role("undertaker", func() error { return (&undertaker{run: r}).buryAll(base) }) })
	for range r.cfg.Concurrency {
		working.Go(func() { r.role("worker", func() error { return r.work(base) }) })
	}

	<-ctx.Done()
	var errs []error
	drain := r.cfg.Drain
	if parent.Err() == nil {
		errs = append(errs, context.Cause(ctx))
		drain = 0
	}
	r.ready(errDraining)
	r.sched.close()
	parts := r.held()
	if n := r.letGo(parts, drain); n > 0 {
		errs = append(errs, fmt.Errorf("%d handlers had not finished after %v and were cancelled; their messages will be delivered again", n, drain))
	}
	if err := r.surrender(parts, true); err != nil {
		errs = append(errs, fmt.Errorf("the last offsets were not committed; messages will be delivered again and counted as duplicates: %w", err))
	}
	polling.Wait()
	r.leave(base)
	release()
	committing.Wait()
	burying.Wait()
	if !finished(&working, cancelGrace) {
		errs = append(errs, errors.New("a handler ignores its context and is still running"))
	}
	return errors.Join(errs...)
}

// ready changes the answer of Consumer.Ready. After errDraining it stays that: an assignment that comes while the consumer stops changes
// nothing.
func (r *run) ready(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ending {
		return
	}
	r.ending = errors.Is(err, errDraining)
	r.tell(err)
}

// leave tells the group and closes the client. A request to join that is on its way would hold both up for as long as the group takes to
// rebalance, since the client does not break it off by itself.
func (r *run) leave(ctx context.Context) {
	defer r.die()
	ctx, cancel := context.WithTimeout(ctx, leaveLimit)
	defer cancel()
	if err := r.client.LeaveGroupContext(ctx); err != nil {
		r.cfg.Logger.Warn("group could not be left; its other members wait for the session timeout", "group", r.cfg.Group, "error", err)
		r.die()
	}
	r.client.CloseAllowingRebalance()
}

// role runs a goroutine's function and makes its error, its panic and its disappearance (runtime.Goexit in a handler) the error of the run:
// a consumer of which a part is dead must not look alive.
func (r *run) role(name string, f func() error) {
	returned := false
	defer func() {
		if v := recover(); v != nil {
			r.fail(fmt.Errorf("%s panicked: %v\n%s", name, v, debug.Stack()))
		} else if !returned {
			r.fail(fmt.Errorf("%s was ended from inside", name))
		}
	}()
	err := f()
	returned = true
	if err != nil {
		r.fail(err)
	}
}

// callback is a role that the client calls.
func (r *run) callback(name string, f func()) {
	<-r.begun
	r.role(name, func() error { f(); return nil })
}

// finished waits for wg, but not for ever.
func finished(wg *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}
