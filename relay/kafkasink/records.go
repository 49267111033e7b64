package kafkasink

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// records are the events of the batch at hand as the client wants them. They are free again once every one is acknowledged.
type records struct {
	position bool // add the position headers
	topics   creator
	limits   *limits
	letters  letters
	reserved string // topic that no event may go to; "": none

	all     []kgo.Record
	headers []kgo.RecordHeader // of all of them
	pos     []record.Header    // of one
}

// take prepares the events: their topics, their records, and that each can be sent, or is a dead letter.
func (r *records) take(ctx context.Context, client *kgo.Client, events []relay.Event) error {
	if err := r.letters.doomed.revise(ctx, client, events); err != nil {
		return err
	}
	if err := r.create(ctx, client, events); err != nil {
		return err
	}
	if err := r.limits.learn(ctx, client, r.limits.unseen(events)); err != nil {
		return err
	}
	r.fill(events)
	return r.refuse(ctx, client, events)
}

// refuse halts for the first event that cannot be sent, or makes a dead letter of each, before anything of the batch leaves. The client refuses a record
// that is too large as well, but from a goroutine of its own, while the flush already sends what lies behind it.
func (r *records) refuse(ctx context.Context, client *kgo.Client, events []relay.Event) error {
	var topic string
	var most int
	var closed error // the topic takes nothing
	doomed := r.letters.doomed.anyEvent()
	for i := range r.all {
		ev, rec := &events[i], &r.all[i]
		if rec.Topic != topic || i == 0 {
			topic, most, closed = rec.Topic, int(r.limits.of(rec.Topic)), r.closed(rec.Topic)
		}
		var err error
		switch size := batchOfOne(rec); {
		case rec.Topic == "":
			err = ev.Dead()
		case closed != nil:
			err = r.misrouted(ev, closed)
		case size > most:
			err = fmt.Errorf("%w: a batch of it alone has %d bytes, the producer's limit is %d", kerr.MessageTooLarge, size, most)
			if r.limits.guessed(rec.Topic) {
				err = fmt.Errorf("%w; %w", err, errGuessed)
			}
			err = r.tooLarge(ev, rec, err)
		case doomed:
			err = r.denied(ev, rec)
		}
		if err == nil {
			continue
		}
		if err := r.bury(ctx, client, events, i, err); err != nil {
			return err
		}
	}
	return nil
}

// create makes the topics of the events, if they are to be made and are not there.
func (r *records) create(ctx context.Context, client *kgo.Client, events []relay.Event) error {
	for i := 0; r.topics.enabled && i < len(events); i++ {
		ev := &events[i]
		if ev.Record.Topic == "" || r.topics.known[ev.Record.Topic] {
			continue
		}
		err := r.topics.create(ctx, client, ev, ev.Record.Topic)
		if err == nil {
			r.letters.doomed.removeTopic(ev.Record.Topic)
		} else if !r.uncreatable(ev.Record.Topic, err) {
			return err
		}
	}
	return nil
}

// fill wraps the events without copying a byte of them. The headers of all records lie in one slice, which is sized first: growing it would leave the
// records before behind.
func (r *records) fill(events []relay.Event) {
	n := 0
	for i := range events {
		n += len(events[i].Record.Headers)
	}
	if r.position {
		n += 3 * len(events)
	}
	if cap(r.headers) < n {
		r.headers = make([]kgo.RecordHeader, 0, n)
	}
	r.headers, r.all, r.letters.buried = r.headers[:0], r.all[:0], r.letters.buried[:0]
	for i := range events {
		ev := &events[i]
		begin := len(r.headers)
		r.appendHeaders(ev.Record.Headers)
		if r.position {
			r.pos = record.AppendPosition(r.pos[:0], ev.Position, ev.CommittedAt)
			r.appendHeaders(r.pos)
		}
		r.all = append(r.all, kgo.Record{
			Topic: ev.Record.Topic, Key: ev.Record.Key, Value: ev.Record.Value, Headers: r.headers[begin:len(r.headers):len(r.headers)],
		})
	}
}

// arrived tells of the dead letters among the events, whose records are all acknowledged, and forgets the batch at hand: its bytes would otherwise stay in
// memory until as large a one follows.
func (r *records) arrived(events []relay.Event) {
	r.letters.arrived(events)
	clear(r.all)
	clear(r.headers)
}

func (r *records) appendHeaders(headers []record.Header) {
	for _, h := range headers {
		r.headers = append(r.headers, kgo.RecordHeader(h))
	}
}

// failure is the record that was refused first, and why. The others failed as its consequence. The zero value is none.
type failure struct {
	rec *kgo.Record
	err error
}

// send hands all records and then extra, if it is not nil, to the client, flushes, and has the answer for each when the flush is over. After the
// first failure, those that have not left yet are withdrawn, so that little overtakes it. Records of topics that take them singly are flushed singly.
func (r *records) send(ctx context.Context, client *kgo.Client, extra *kgo.Record) (failure, error) {
	producing, cancel := context.WithCancel(ctx)
	defer cancel()
	first := &firstFailure{cancel: cancel}
	first.unanswered.Add(len(r.all))
	for i := range r.all {
		client.Produce(producing, &r.all[i], first.note)
		if r.limits.singles.has(r.all[i].Topic) {
			if err := flush(ctx, client); err != nil || first.get().err != nil {
				return first.get(), err
			}
		}
	}
	if extra != nil {
		first.unanswered.Add(1)
		client.Produce(producing, extra, first.note)
	}
	if err := flush(ctx, client); err != nil {
		return failure{}, err
	}
	first.unanswered.Wait() // a flush does not wait for the answer to a record that the client has refused to buffer
	return first.get(), nil
}

// flushAgain is after what time a flush is repeated.
const flushAgain = time.Second

// flush waits until every record has its answer. It does so again and again: when the producer is shut out just as the client takes in a topic's partitions,
// kgo 1.22.2 may fail every record but the topic's, which then wait for the next flush. (In kgo: storePartitionsUpdate lets records go and then stores their
// partitions; failBufferedRecords visits what is stored.)
func flush(ctx context.Context, client *kgo.Client) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, flushAgain)
		err := client.Flush(attempt)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("flush: %w", ctx.Err())
		}
	}
}

// explain turns a failure into the relay's terms, if it is one of an event.
func (r *records) explain(events []relay.Event, failed failure) (_ error, ok bool) {
	for i := range r.all {
		rec := &r.all[i]
		if failed.rec != rec {
			continue
		}
		cause := r.classify(&events[i], rec, failed.err)
		if r.letters.has(i) { // and so it will be the next time
			return cause, true
		}
		return r.condemn(&events[i], rec.Topic, failed.err, cause), true
	}
	return failed.err, false
}

func (r *records) classify(ev *relay.Event, rec *kgo.Record, err error) error {
	if largeness(err) {
		return r.refused(ev, rec, err)
	}
	return classify(ev, rec.Topic, err, r.topics.enabled)
}

// firstFailure remembers the first record that failed.
type firstFailure struct {
	cancel     context.CancelFunc
	unanswered sync.WaitGroup

	mu    sync.Mutex // guards first; the client calls note from goroutines of its own
	first failure
}

func (f *firstFailure) note(rec *kgo.Record, err error) {
	defer f.unanswered.Done()
	if err == nil {
		return
	}
	f.mu.Lock()
	if f.first.err == nil {
		f.first = failure{rec, err}
	}
	f.mu.Unlock()
	f.cancel()
}

func (f *firstFailure) get() failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first
}
