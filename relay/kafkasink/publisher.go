package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// publisher owns one client; the engine closes it after the first error, and never uses it again.
type publisher struct {
	client  *kgo.Client
	cfg     Config
	created map[string]bool // topics known to exist, when we create them

	records []kgo.Record       // of the batch at hand; free again once every one is acknowledged
	headers []kgo.RecordHeader // of all its records
	pos     []record.Header    // of one record
}

// Publish hands all events to the client, flushes, and has the answer for every record when the flush is over. The first failure vetoes the whole: its
// event is the one that the error names, and records of the batch that have not left yet are withdrawn, so that little overtakes it.
func (p *publisher) Publish(ctx context.Context, events []relay.Event, _ relay.Watermark) error {
	if len(events) == 0 {
		return nil
	}
	if err := p.createTopics(ctx, events); err != nil {
		return err
	}
	p.fill(events)
	if err := p.refuseTooLarge(events); err != nil {
		return err
	}
	producing, cancel := context.WithCancel(ctx)
	defer cancel()
	first := &firstFailure{cancel: cancel}
	for i := range p.records {
		p.client.Produce(producing, &p.records[i], first.note)
	}
	if err := p.client.Flush(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	rec, err := first.failure()
	for i := range p.records {
		if rec == &p.records[i] {
			return classify(&events[i], err)
		}
	}
	return err
}

// firstFailure remembers the first record that failed; the others fail as its consequence.
type firstFailure struct {
	cancel context.CancelFunc

	mu  sync.Mutex // guards rec and err; the client calls note from goroutines of its own
	rec *kgo.Record
	err error
}

func (f *firstFailure) note(rec *kgo.Record, err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	if f.err == nil {
		f.rec, f.err = rec, err
	}
	f.mu.Unlock()
	f.cancel()
}

func (f *firstFailure) failure() (*kgo.Record, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rec, f.err
}

// fill wraps the events for the client without copying a byte of them. The headers of all records lie in one slice, which is sized first: growing it
// would leave the records before behind.
func (p *publisher) fill(events []relay.Event) {
	n := 0
	for i := range events {
		n += len(events[i].Record.Headers)
	}
	if p.cfg.PositionHeaders {
		n += 3 * len(events)
	}
	if cap(p.headers) < n {
		p.headers = make([]kgo.RecordHeader, 0, n)
	}
	p.headers, p.records = p.headers[:0], p.records[:0]
	for i := range events {
		ev := &events[i]
		begin := len(p.headers)
		p.appendHeaders(ev.Record.Headers)
		if p.cfg.PositionHeaders {
			p.pos = record.AppendPosition(p.pos[:0], ev.Position, ev.CommittedAt)
			p.appendHeaders(p.pos)
		}
		p.records = append(p.records, kgo.Record{
			Topic: ev.Record.Topic, Key: ev.Record.Key, Value: ev.Record.Value, Headers: p.headers[begin:len(p.headers):len(p.headers)],
		})
	}
}

func (p *publisher) appendHeaders(headers []record.Header) {
	for _, h := range headers {
		p.headers = append(p.headers, kgo.RecordHeader(h))
	}
}

// createTopics creates the topics of the events that were not seen before, if it is to.
func (p *publisher) createTopics(ctx context.Context, events []relay.Event) error {
	if !p.cfg.CreateTopics {
		return nil
	}
	for i := range events {
		topic := events[i].Record.Topic
		if p.created[topic] {
			continue
		}
		const brokersDefault = -1
		_, err := kadm.NewClient(p.client).CreateTopic(ctx, brokersDefault, brokersDefault, nil, topic)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return classify(&events[i], fmt.Errorf("create topic: %w", err))
		}
		if p.created == nil {
			p.created = make(map[string]bool)
		}
		p.created[topic] = true
	}
	return nil
}

// Close withdraws what has not been sent and disconnects. What is in flight may still arrive; the relay publishes it again.
func (p *publisher) Close() error {
	p.client.Close()
	return nil
}
