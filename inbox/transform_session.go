package inbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// session is the life of one transactional client. Whatever leaves the state of its transactions in doubt ends it: the next one takes the
// transactional id over, which ends what is open, and only then asks the group how far it got.
//
// What it reads is in a transaction or nowhere: the group's offsets move with the records or not at all. A rebalance waits from the poll's
// return until the transaction is over; one that the group does not wait for makes the broker refuse the commit.
type session struct {
	t       *Transformer
	cfg     TransformConfig
	tx      *kgo.GroupTransactSession
	client  *kgo.Client
	observe transformObservers

	failed   int                  // batches in a row that failed
	carried  bool                 // a batch was committed
	letters  map[spot]*deadLetter // of the batch at hand: messages that were given up
	narrow   map[string]bool      // topics that refused a request of several records: they get one record each
	created  map[string]bool      // topics known to exist, when we create them
	disturbs map[place]time.Time  // when a disturbance of a partition was last mentioned
	reported time.Time            // when the lag was last
	moved    atomic.Bool          // partitions were taken away since the last batch
	joined   atomic.Bool          // there was an assignment

	mu    sync.Mutex // protects reach
	reach map[place]*reach
}

// spot is the place of a message.
type spot struct {
	topic     string
	partition int32
	offset    int64
}

func spotOf(rec *kgo.Record) spot { return spot{rec.Topic, rec.Partition, rec.Offset} }

// reach is how far a partition was read.
type reach struct {
	end  int64 // of the log, as of the last fetch; -1 while there was none
	next int64 // the committed offset; -1 while it is not known
}

// session runs one client until ctx ends, which gives nil, or until it can go no further. carried reports that it committed something.
func (t *Transformer) session(ctx, working context.Context) (carried bool, err error) {
	t.setJoined(errTransformerUnjoined)
	s := &session{
		t: t, cfg: t.cfg, observe: newTransformObservers(t.cfg.Observer),
		letters: make(map[spot]*deadLetter), narrow: make(map[string]bool), created: make(map[string]bool),
		disturbs: make(map[place]time.Time), reach: make(map[place]*reach),
	}
	if s.tx, err = kgo.NewGroupTransactSession(s.clientOptions()...); err != nil {
		return false, &endError{err}
	}
	s.client = s.tx.Client()
	defer s.leave(ctx)
	if err := s.fence(ctx); err != nil {
		if ctx.Err() != nil {
			return false, nil
		}
		return false, err
	}
	s.client.AddConsumeTopics(s.cfg.Topics...) // not before the fence: what is read must be what the last owner left
	err = s.run(ctx, working)
	return s.carried, err
}

func (s *session) run(ctx, working context.Context) error {
	defer s.tx.AllowRebalance()
	for {
		b, err := s.poll(ctx)
		if err != nil {
			return &endError{err}
		}
		if ctx.Err() != nil {
			return nil // what was read is in no transaction, hence read again
		}
		switch {
		case s.moved.Swap(false):
			// The client would refuse the commit: among the records may be those of a partition that went and came back.
			clear(s.letters)
			err = s.goBack(working)
		case len(b.records) > 0:
			if err = s.carry(working, b); err == nil {
				s.failed = 0
			}
		}
		s.tx.AllowRebalance()
		s.reportLag()
		var broken *brokenError
		switch {
		case errors.As(err, &broken):
			return broken.err
		case err != nil:
			s.failed++
			s.t.pause(ctx, s.failed, "a batch failed; its messages wait and are read again", err)
		}
	}
}

// brokenError ends the session.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// idlePoll is how often an idle transformer shows that it is alive.
const idlePoll = time.Second

// poll reads a batch, which is empty when nothing came for a while. Its error ends the run.
func (s *session) poll(ctx context.Context) (*batch, error) {
	waiting, cancel := context.WithTimeout(ctx, idlePoll)
	defer cancel()
	fetches := s.tx.PollRecords(waiting, s.t.most)
	b := &batch{begun: time.Now(), next: make(map[place]int64)}
	if ctx.Err() != nil || fetches.IsClientClosed() {
		return b, nil
	}
	var errs []error
	s.mu.Lock()
	defer s.mu.Unlock()
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		at := place{f.Topic, f.Partition}
		if f.Err != nil {
			if f.Topic != "" || waiting.Err() == nil { // the end of the waiting is no error
				errs = append(errs, s.fetchFailed(f))
			}
			return
		}
		if r := s.reach[at]; r != nil {
			if r.end = f.HighWatermark; f.LastStableOffset >= 0 {
				r.end = f.LastStableOffset
			}
		}
		if n := len(f.Records); n > 0 {
			b.records = append(b.records, f.Records...)
			b.next[at] = f.Records[n-1].Offset + 1
		}
	})
	return b, errors.Join(errs...)
}

func (s *session) fetchFailed(f kgo.FetchTopicPartition) error {
	if err := endsReading(s.cfg.Group, f); err != nil {
		return err
	}
	at := place{f.Topic, f.Partition}
	if time.Since(s.disturbs[at]) >= disturbedEvery {
		s.disturbs[at] = time.Now()
		s.cfg.Logger.Warn("reading is disturbed; the client tries again", "group", s.cfg.Group, "topic", f.Topic, "partition", f.Partition, "error", f.Err)
	}
	return nil
}

// leave tells the group, so that it need not wait for the session's end, and closes the client.
func (s *session) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveLimit)
	defer cancel()
	if err := s.client.LeaveGroupContext(ctx); err != nil {
		s.cfg.Logger.Warn("group could not be left; its other members wait for the session timeout", "group", s.cfg.Group, "error", err)
	}
	s.client.CloseAllowingRebalance()
}

// The three callbacks below never run between a poll that brought something and AllowRebalance.

func (s *session) assigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	s.mu.Lock()
	for topic, numbers := range added {
		for _, number := range numbers {
			s.reach[place{topic, number}] = &reach{end: -1, next: -1}
		}
	}
	s.mu.Unlock()
	s.t.setJoined(nil)
	if s.joined.CompareAndSwap(false, true) {
		s.t.setTrouble(nil) // of the session before
	}
	s.rebalanced(Assigned, added)
}

func (s *session) revoked(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	if len(gone) > 0 {
		s.forget(gone)
		s.rebalanced(Revoked, gone)
	}
}

func (s *session) lost(_ context.Context, _ *kgo.Client, gone map[string][]int32) {
	s.t.setJoined(errTransformerUnjoined)
	s.forget(gone)
	s.rebalanced(Lost, gone)
}

func (s *session) forget(gone map[string][]int32) {
	s.moved.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	for topic, numbers := range gone {
		for _, number := range numbers {
			delete(s.reach, place{topic, number})
		}
	}
}

func (s *session) rebalanced(kind Rebalance, moved map[string][]int32) {
	var names []string
	for topic, numbers := range moved {
		for _, number := range numbers {
			names = append(names, fmt.Sprintf("%s/%d", topic, number))
		}
	}
	s.mu.Lock()
	held := len(s.reach)
	s.mu.Unlock()
	if s.observe.group != nil {
		s.observe.group.Rebalanced(kind, len(names), held, 0)
	}
	s.cfg.Logger.Info("rebalance", "group", s.cfg.Group, "kind", string(kind), "partitions", names, "held", held)
}

func (s *session) reportLag() {
	if s.observe.lag == nil || time.Since(s.reported) < idlePoll {
		return
	}
	s.reported = time.Now()
	var lags []Lag
	s.mu.Lock()
	for at, r := range s.reach {
		l := Lag{Topic: at.topic, Partition: at.number}
		if r.end >= 0 && r.next >= 0 {
			l.Records = max(r.end-r.next, 0)
		}
		lags = append(lags, l)
	}
	s.mu.Unlock()
	s.observe.lag.Lag(lags)
}
