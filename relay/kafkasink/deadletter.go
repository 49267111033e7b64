package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// letters make dead letters of the events that can never be published. They stand in the batch where their events do: behind what was committed before
// them, ahead of what comes after, and in the same transaction.
//
// What is known before anything of a batch leaves is replaced at once. What brokers alone can tell, a topic that is missing or a record that they
// refuse, ends the publisher as every failure does, and is known to the next one: see doomed.
type letters struct {
	topic  string // "": none are made, and each such event halts
	doomed *doomed
	log    *slog.Logger
	report func(*relay.Event, *relay.HaltError) // nil: nobody is told

	ready  bool     // the topic's limit is known
	buried []burial // of the batch at hand
}

// burial is a dead letter among the records.
type burial struct {
	at  int // index
	why *relay.HaltError
}

// bury puts a dead letter where event i was, if the cause is one for it; otherwise it returns the cause.
func (r *records) bury(ctx context.Context, client *kgo.Client, events []relay.Event, i int, cause error) error {
	why := r.forLetters(cause)
	if why == nil {
		return cause
	}
	if err := r.prepareLetters(ctx, client, &events[i]); err != nil {
		return err
	}
	most := int(r.limits.of(r.letters.topic))
	for _, without := range [][]string{nil, {lostValue}, {lostValue, lostHeaders}, {lostValue, lostHeaders, lostMessage}} {
		r.all[i] = r.letters.letter(&events[i], why, without)
		if batchOfOne(&r.all[i]) <= most {
			r.letters.buried = append(r.letters.buried, burial{i, why})
			return nil
		}
	}
	return r.tooLarge(&events[i], &r.all[i], fmt.Errorf("%w: a batch of its dead letter alone has %d bytes without value and headers, the producer's limit is %d",
		kerr.MessageTooLarge, batchOfOne(&r.all[i]), most))
}

// forLetters is the halt in err if dead letters are made, and if it is the fault of its event, not of the relay's rights, clock or brokers, which would
// send every event there. Otherwise it is nil.
func (r *records) forLetters(err error) *relay.HaltError {
	var why *relay.HaltError
	if r.letters.topic == "" || !errors.As(err, &why) {
		return nil
	}
	switch {
	case why.Cause == relay.EventTooLarge && !errors.Is(why.Err, errGuessed),
		why.Cause == relay.Unpublishable && !errors.Is(why.Err, kerr.InvalidTimestamp),
		why.Cause == relay.TopicMissing && unknownTopic(why.Err) && !r.topics.enabled:
		return why
	}
	return nil
}

func unknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}

// prepareLetters makes the topic, if it is to, and reads its limit.
func (r *records) prepareLetters(ctx context.Context, client *kgo.Client, first *relay.Event) error {
	if r.letters.ready {
		return nil
	}
	if err := r.topics.create(ctx, client, first, r.letters.topic); err != nil {
		return err
	}
	if err := r.limits.learn(ctx, client, []string{r.letters.topic}); err != nil {
		return err
	}
	r.letters.ready = true
	return nil
}

// What a dead letter does without when its topic would not take it.
const (
	lostValue   = "value"
	lostHeaders = "headers" // but the id
	lostMessage = "message"
)

// letter is the dead letter of an event: key, value and headers of the original, then why and where from. What was left out is still in the outbox table,
// under the id.
func (l *letters) letter(ev *relay.Event, why *relay.HaltError, without []string) kgo.Record {
	var headers []record.Header
	for _, h := range ev.Record.Headers {
		if !record.IsDeadHeader(h.Key) && (h.Key == record.HeaderID || !slices.Contains(without, lostHeaders)) {
			headers = append(headers, h)
		}
	}
	headers = record.AppendPosition(headers, ev.Position, ev.CommittedAt)
	add := func(key, value string) {
		if value != "" {
			headers = append(headers, record.Header{Key: key, Value: []byte(value)})
		}
	}
	const class = "permanent"
	add(record.HeaderDeadTopic, ev.Record.Topic)
	if !slices.Contains(without, lostMessage) {
		add(record.HeaderDeadMessage, record.Clip(why.Err.Error(), record.MaxDeadMessage))
	}
	add(record.HeaderDeadID, ev.ID())
	add(record.HeaderDeadCode, why.Cause.String())
	add(record.HeaderDeadClass, class)
	add(record.HeaderDeadFingerprint, record.Fingerprint(class, why.Cause.String(), why.Err.Error()))
	add(record.HeaderDeadFailedAt, time.Now().UTC().Format(time.RFC3339Nano))
	add(record.HeaderDeadOriginalTimestamp, ev.CommittedAt.UTC().Format(time.RFC3339Nano))
	add(record.HeaderDeadTruncated, strings.Join(without, ","))
	letter := kgo.Record{Topic: l.topic, Key: ev.Record.Key, Value: ev.Record.Value}
	if slices.Contains(without, lostValue) {
		letter.Value = nil
	}
	for _, h := range headers {
		letter.Headers = append(letter.Headers, kgo.RecordHeader(h))
	}
	return letter
}

// has reports whether record i is a dead letter.
func (l *letters) has(i int) bool {
	return slices.ContainsFunc(l.buried, func(b burial) bool { return b.at == i })
}

// arrived says of which events the dead letters were acknowledged.
func (l *letters) arrived(events []relay.Event) {
	for _, b := range l.buried {
		ev := &events[b.at]
		l.log.Error("event went to the dead-letter topic", "event", ev.ID(), "position", ev.Position.String(), "dead_letter_topic", l.topic,
			"cause", b.why.Cause.String(), "error", b.why.Err)
		if l.report != nil {
			l.report(ev, b.why)
		}
	}
}

// reservedError is about a topic that is not for events.
type reservedError struct{ topic, use string }

func (e *reservedError) Error() string {
	return fmt.Sprintf("its topic is %s, which keeps %s", e.topic, e.use)
}

// closed is why no event can go to a topic, nil when nothing is known against it.
func (r *records) closed(topic string) error {
	switch topic {
	case "":
		return nil
	case r.reserved:
		return &reservedError{topic, "the relay's watermark"}
	case r.letters.topic:
		return &reservedError{topic, "dead letters"}
	}
	return r.letters.doomed.topic(topic)
}

// misrouted is the halt for an event to a closed topic.
func (r *records) misrouted(ev *relay.Event, closed error) error {
	var reserved *reservedError
	if !errors.As(closed, &reserved) {
		return classify(ev, ev.Record.Topic, closed, r.topics.enabled)
	}
	return &relay.HaltError{
		Cause: relay.Unpublishable, From: ev.Position.Commit, Hint: "correct --topic, or the event type of that row",
		Err: fmt.Errorf("event %s at position %s: %w", ev.ID(), ev.Position, reserved),
	}
}

// denied is the halt for an event that brokers have refused before, nil when none has.
func (r *records) denied(ev *relay.Event, rec *kgo.Record) error {
	err := r.letters.doomed.event(ev)
	switch {
	case err == nil:
		return nil
	case largeness(err):
		return r.tooLarge(ev, rec, err)
	}
	return classify(ev, rec.Topic, err, r.topics.enabled)
}

// uncreatable remembers a topic that cannot be made under its name, and reports whether its events become dead letters for that.
func (r *records) uncreatable(topic string, err error) bool {
	if r.forLetters(err) == nil {
		return false
	}
	r.letters.doomed.addTopic(topic, kerr.InvalidTopicException)
	return true
}

// condemn remembers what a broker has refused, if its event is to become a dead letter, and makes an error that passes of the halt. err is the broker's.
func (r *records) condemn(ev *relay.Event, topic string, err, cause error) error {
	why := r.forLetters(cause)
	switch {
	case why == nil:
		return cause
	case unknownTopic(err), errors.Is(err, kerr.InvalidTopicException):
		r.letters.doomed.addTopic(topic, err)
	case largeness(err):
		r.letters.doomed.addEvent(ev, err)
	case r.count(topic) > 1 && !r.limits.singles.has(topic): // any of them may be the one
		r.limits.singles.add(topic)
		return &relay.Learned{Err: fmt.Errorf("topic %s refuses a batch: its events are sent one by one until it is known which: %w", topic, err)}
	default:
		r.limits.singles.remove(topic)
		r.letters.doomed.addEvent(ev, err)
	}
	return &relay.Learned{Err: fmt.Errorf("it will be a dead letter: %w", why.Err)}
}
