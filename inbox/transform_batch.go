package inbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
)

// batch is what one poll brought.
type batch struct {
	records []*kgo.Record
	next    map[place]int64 // the offset after the last record of each partition
	begun   time.Time
}

// output is a record to publish.
type output struct {
	rec    *kgo.Record
	from   *kgo.Record // the message that it was made of
	letter *deadLetter // nil: it is no dead letter
}

// carry makes records of a batch, and one transaction of the records and the offsets. Without an error both are committed. A *brokenError ends
// the session, any other error means that the batch is read again.
func (s *session) carry(working context.Context, b *batch) error {
	outputs, err := s.transform(working, b) // before the transaction, so that a slow function does not make it time out
	done := Transaction{In: len(b.records), Dead: letters(outputs)}
	done.Out = len(outputs) - done.Dead
	if err != nil {
		err = errors.Join(err, s.goBack(working))
	} else {
		// A transaction that takes longer than its timeout was ended by the broker. The context ends the calls that wait for the impossible;
		// whoever cancels them throws the client away.
		limit := 2 * s.cfg.TransactionTimeout
		ctx, cancel := context.WithTimeoutCause(working, limit, fmt.Errorf("the transaction took longer than %v", limit))
		defer cancel()
		err = s.transact(ctx, b, outputs)
	}
	done.Took, done.Err = time.Since(b.begun), err
	s.pace(done)
	s.observe.ended(done)
	if err == nil {
		s.committed(b, outputs)
	}
	if broken, ok := errors.AsType[*brokenError](err); ok && s.fenced(broken.err, done.Took) {
		return &brokenError{&endError{fmt.Errorf("another process runs under instance id %q: give each a name of its own: %w", s.cfg.InstanceID, broken.err)}}
	}
	return err
}

// goBack makes the client read on from the group's offsets. No transaction is open.
func (s *session) goBack(ctx context.Context) error {
	if _, err := s.tx.End(ctx, kgo.TryAbort); err != nil {
		return &brokenError{fmt.Errorf("go back to the group's offsets: %w", err)}
	}
	return nil
}

// transact publishes and commits.
func (s *session) transact(ctx context.Context, b *batch, outputs []output) error {
	if err := s.createTopics(ctx, outputs); err != nil {
		return errors.Join(err, s.goBack(ctx))
	}
	if err := s.tx.Begin(); err != nil {
		return &brokenError{fmt.Errorf("begin a transaction: %w", err)}
	}
	if failed, err := s.produce(ctx, outputs); err != nil {
		if failed != nil {
			s.t.most = max(slices.Index(b.records, failed.from), 1) // those before it need not wait
		}
		err = s.learn(failed, err)
		if _, endErr := s.tx.End(ctx, kgo.TryAbort); endErr != nil {
			return &brokenError{errors.Join(err, fmt.Errorf("abort the transaction: %w", endErr))}
		}
		return err
	}
	if err := s.covers(b); err != nil {
		_, endErr := s.tx.End(ctx, kgo.TryAbort)
		return &brokenError{errors.Join(err, endErr)}
	}
	switch committed, err := s.commit(ctx); {
	case err != nil:
		return &brokenError{fmt.Errorf("commit the transaction: %w", errors.Join(err, context.Cause(ctx)))}
	case committed:
		return nil
	}
	if err := s.agrees(ctx); err != nil {
		return &brokenError{err}
	}
	return errors.New("the transaction was aborted: the group refused its offsets, as it does during a rebalance")
}

// endGrace is long for a commit, and short against the group's patience.
const endGrace = 2 * time.Second

// commit ends the transaction. For that the client wants a heartbeat of the group, and the loop that makes it may have ended:
//
//   - the broker has thrown the member out; the loop ends and wants to tell that the partitions are lost
//   - telling waits for AllowRebalance, hence for the end of this transaction
//   - the end of this transaction waits for the heartbeat
//
// So a rebalance may go on after a while. From then on the client itself keeps commit and rebalance apart, by aborting.
func (s *session) commit(ctx context.Context) (committed bool, err error) {
	defer time.AfterFunc(endGrace, s.tx.AllowRebalance).Stop()
	return s.tx.End(ctx, kgo.TryCommit)
}

// covers checks that what the client is about to commit is the batch, no more and no less.
func (s *session) covers(b *batch) error {
	n := 0
	for topic, partitions := range s.client.UncommittedOffsets() {
		for number, at := range partitions {
			n++
			if want, ok := b.next[place{topic, number}]; !ok || want != at.Offset {
				return fmt.Errorf("%s/%d: the client would commit offset %d, the batch ends at %d", topic, number, at.Offset, want)
			}
		}
	}
	if n != len(b.next) {
		return fmt.Errorf("the client would commit offsets of %d partitions, the batch has %d", n, len(b.next))
	}
	return nil
}

// transform makes the records of a batch. An error names the message that it waits for.
func (s *session) transform(ctx context.Context, b *batch) ([]output, error) {
	outputs := make([]output, 0, len(b.records))
	for i, rec := range b.records {
		if rec.Attrs.IsControl() {
			continue
		}
		m, _ := newMessage(rec) // a message that is no event is the function's to judge
		m.Attempt = s.failed + 1
		letter := s.letters[spotOf(rec)]
		if letter == nil {
			made, err := s.call(ctx, m)
			switch {
			case err == nil:
				for _, r := range made {
					outputs = append(outputs, output{rec: toKafka(r), from: rec})
				}
				continue
			case ctx.Err() != nil:
				return outputs, context.Cause(ctx)
			case !IsPermanent(err):
				s.t.most = max(i, 1) // those before it need not wait
				return outputs, fmt.Errorf("transform %s/%d offset %d: %w", rec.Topic, rec.Partition, rec.Offset, err)
			}
			letter = newDeadLetter(err)
			s.letters[spotOf(rec)] = letter
		}
		it := &item{rec: rec, attempts: m.Attempt}
		outputs = append(outputs, output{rec: letter.record(it, m, s.cfg.Group, s.cfg.DeadLetterTopic), from: rec, letter: letter})
	}
	return outputs, nil
}

// call runs the function and judges what it returns.
func (s *session) call(ctx context.Context, m *Message) (made []record.Record, err error) {
	defer func() {
		if v := recover(); v != nil {
			made, err = nil, &panicError{value: v, stack: debug.Stack()}
		}
	}()
	if made, err = s.cfg.Transform(ctx, m); err != nil {
		return nil, err
	}
	for _, r := range made {
		if err := record.CheckTopic(r.Topic); err != nil {
			return nil, Permanent(fmt.Errorf("the record's %w", err), "invalid_topic")
		}
		if slices.Contains(s.cfg.Topics, r.Topic) {
			return nil, Permanent(fmt.Errorf("the record's topic %s is one that is read: it would come round for ever", r.Topic), "loop")
		}
	}
	return made, nil
}

func toKafka(r record.Record) *kgo.Record {
	rec := &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: make([]kgo.RecordHeader, len(r.Headers))}
	for i, h := range r.Headers {
		rec.Headers[i] = kgo.RecordHeader(h)
	}
	return rec
}

func letters(outputs []output) (n int) {
	for i := range outputs {
		if outputs[i].letter != nil {
			n++
		}
	}
	return n
}

// flushEvery bounds what the client buffers: with manual flushing a full buffer refuses records instead of sending them.
const flushEvery = 10_000

// produce publishes and waits for every acknowledgement. The first failure vetoes all: it returns the output in question, or nil if there is
// none in particular.
func (s *session) produce(ctx context.Context, outputs []output) (*output, error) {
	var first firstFailure
	for i := range outputs {
		rec := outputs[i].rec
		s.client.Produce(ctx, rec, first.note)
		// A dead letter travels alone, and so does a record to a topic that refused a batch: the client puts several into one request, which
		// the broker may refuse as too large though each of them fits.
		if outputs[i].letter == nil && !s.narrow[rec.Topic] && i%flushEvery < flushEvery-1 {
			continue
		}
		if err := s.client.Flush(ctx); err != nil || first.get() != nil {
			break
		}
	}
	if err := s.client.Flush(ctx); err != nil {
		return nil, fmt.Errorf("flush: %w", context.Cause(ctx))
	}
	rec, err := first.rec, first.err
	for i := range outputs {
		if rec == outputs[i].rec {
			return &outputs[i], err
		}
	}
	return nil, err
}

// firstFailure remembers the first record that failed; the client calls note from goroutines of its own.
type firstFailure struct {
	mu  sync.Mutex // protects rec and err
	rec *kgo.Record
	err error
}

func (f *firstFailure) note(rec *kgo.Record, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && err != nil {
		f.rec, f.err = rec, err
	}
}

func (f *firstFailure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// learn draws the conclusions of a failed produce for the next attempt, and says what it was.
func (s *session) learn(failed *output, err error) error {
	if failed == nil {
		return fmt.Errorf("publish: %w", err)
	}
	topic, from := failed.rec.Topic, spotOf(failed.from)
	switch poison := slices.ContainsFunc(recordsFault, func(e error) bool { return errors.Is(err, e) }); {
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return fmt.Errorf("topic %s does not exist: create it with `walpost topics create --topics %s`: %w", topic, topic, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("topic %s may not be written to: grant this user Write and Describe on it: %w", topic, err)
	case poison && failed.letter != nil && !failed.letter.shrink(err):
		return fmt.Errorf("the dead letter of %s/%d offset %d is refused, and everything waits for it: raise max.message.bytes of topic %s: %w",
			from.topic, from.partition, from.offset, topic, err)
	case poison && failed.letter == nil && !s.narrow[topic]:
		s.narrow[topic] = true // several records shared the refused request: find out which of them is to blame
	case poison && failed.letter == nil:
		s.letters[from] = newDeadLetter(Permanent(fmt.Errorf("topic %s refuses the record of %d bytes: %w", topic, len(failed.rec.Value), err), "refused"))
	}
	return fmt.Errorf("publish to topic %s what was made of %s/%d offset %d: %w", topic, from.topic, from.partition, from.offset, err)
}

// recordsFault are the refusals that a record is to blame for.
var recordsFault = []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTopicException}

// fenced reports that somebody else owns the transactional id. A transaction that timed out looks alike.
func (s *session) fenced(err error, took time.Duration) bool {
	return s.cfg.InstanceID != "" && took < s.cfg.TransactionTimeout && (errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.FencedInstanceID))
}

// pace shrinks batches that take long, before they take too long, and lets them grow again.
func (s *session) pace(tx Transaction) {
	switch {
	case tx.Took > s.cfg.TransactionTimeout/3:
		s.t.most = max(s.t.most/2, 1)
	case tx.Err == nil && tx.Took < s.cfg.TransactionTimeout/10:
		s.t.most = min(s.t.most*2, s.cfg.Batch)
	}
}

// committed draws the conclusions of a commit.
func (s *session) committed(b *batch, outputs []output) {
	s.carried = true
	s.t.setTrouble(nil)
	for i := range outputs {
		if d := outputs[i].letter; d != nil {
			from := outputs[i].from
			delete(s.letters, spotOf(from))
			s.cfg.Logger.Error("message went to the dead-letter topic", "topic", from.Topic, "partition", from.Partition, "offset", from.Offset,
				"dead_letter_topic", s.cfg.DeadLetterTopic, "code", d.code, "error", d.message)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, next := range b.next {
		if r := s.reach[at]; r != nil {
			r.next = next
		}
	}
}

// createTopics creates the topics of the outputs that were not seen before, if it is to.
func (s *session) createTopics(ctx context.Context, outputs []output) error {
	if !s.cfg.CreateTopics {
		return nil
	}
	for i := range outputs {
		topic := outputs[i].rec.Topic
		if outputs[i].letter != nil || s.created[topic] {
			continue
		}
		const brokersDefault = -1
		_, err := kadm.NewClient(s.client).CreateTopic(ctx, brokersDefault, brokersDefault, nil, topic)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("create topic %s: %w", topic, err)
		}
		s.created[topic] = true
	}
	return nil
}
