package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/relay"
)

// maxMessageBytes is the topic's setting that bounds a batch, whatever its name says.
const maxMessageBytes = "max.message.bytes"

const (
	// unknownLimit is the client's own default, which is a little below that of the brokers. It holds for a topic whose settings may not be read.
	unknownLimit = 1_000_012

	// leastLimit is the least that the client allows.
	leastLimit = 512

	// requestRoom is more than a request has around its batch.
	requestRoom = 1 << 10
)

// limits are the sizes of the batches that topics take, in bytes: max.message.bytes bounds a batch, not a message. Each publisher reads them once,
// since its clients ask for them once.
type limits struct {
	bounds
	singles *singles
	log     *slog.Logger

	mu     sync.RWMutex // guards topics; the clients ask from goroutines of their own
	topics map[string]learned
}

// learned is what is known of a topic.
type learned struct {
	bytes   int32
	guessed bool // its settings could not be read
}

// bounds are what ClientOptions say of the size of a batch.
type bounds struct {
	chosen  func(topic string) int32 // unknownLimit: nothing was
	request int32                    // what a request can hold
	packed  bool                     // batches are compressed: what the brokers measure is not known beforehand
}

// boundsOf reads them from a client that has the options.
func boundsOf(client *kgo.Client) (b bounds) {
	b.chosen, _ = client.OptValue(kgo.ProducerBatchMaxBytesFn).(func(string) int32)
	b.request, _ = client.OptValue(kgo.BrokerMaxWriteBytes).(int32)
	b.request -= requestRoom
	codecs, _ := client.OptValue(kgo.ProducerBatchCompression).([]kgo.CompressionCodec)
	compressor, _ := client.OptValue(kgo.WithCompressor).(kgo.Compressor)
	b.packed = compressor != nil || slices.ContainsFunc(codecs, func(c kgo.CompressionCodec) bool { return c != kgo.NoCompression() })
	return b
}

// singles are the topics whose records are sent one by one, because the brokers have refused a batch that was within all the limits that are known.
// All publishers of a Sink share them.
type singles struct {
	mu     sync.Mutex // guards topics
	topics map[string]bool
}

func (s *singles) has(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topics[topic]
}

func (s *singles) add(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.topics == nil {
		s.topics = make(map[string]bool)
	}
	s.topics[topic] = true
}

func (s *singles) remove(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.topics, topic)
}

func (s *Sink) newLimits() *limits {
	return &limits{bounds: s.bounds, singles: &s.singles, log: s.cfg.Logger, topics: make(map[string]learned)}
}

// option makes a client keep the limits.
func (l *limits) option() kgo.Opt { return kgo.ProducerBatchMaxBytesFn(l.of) }

// of is the limit of a topic. Batches that are compressed may be larger than the topic's before they are, as large as was chosen.
func (l *limits) of(topic string) int32 {
	l.mu.RLock()
	known, ok := l.topics[topic]
	l.mu.RUnlock()
	limit := known.bytes
	if !ok {
		limit = unknownLimit
	}
	switch chosen := l.chosen(topic); {
	case chosen == unknownLimit && l.packed:
		limit = max(limit, chosen)
	case chosen == unknownLimit:
	case l.packed:
		limit = chosen
	default:
		limit = min(limit, chosen)
	}
	return min(max(limit, leastLimit), l.request)
}

// learn reads the limits of topics. It asks by itself, because the admin client gives all topics up for one that it may not
// look at.
func (l *limits) learn(ctx context.Context, client *kgo.Client, topics []string) error {
	if len(topics) == 0 {
		return nil
	}
	request := kmsg.NewPtrDescribeConfigsRequest()
	for _, topic := range topics {
		of := kmsg.NewDescribeConfigsRequestResource()
		of.ResourceType, of.ResourceName, of.ConfigNames = kmsg.ConfigResourceTypeTopic, topic, []string{maxMessageBytes}
		request.Resources = append(request.Resources, of)
	}
	answer, err := request.RequestWith(ctx, client)
	if err != nil {
		return authentication(fmt.Errorf("look at the settings of topics: %w", err))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range answer.Resources {
		of := &answer.Resources[i]
		switch err := kerr.ErrorForCode(of.ErrorCode); {
		case errors.Is(err, kerr.UnknownTopicOrPartition): // it may be there the next time
		case err != nil:
			l.topics[of.ResourceName] = learned{unknownLimit, true}
			l.log.Warn("kafka sink may not read the settings of a topic and does not know what size it takes; grant the relay's Kafka user DescribeConfigs on it",
				"topic", of.ResourceName, "bytes", unknownLimit, "error", err)
		default:
			l.topics[of.ResourceName] = learned{bytes: settingOf(of)}
		}
	}
	return nil
}

// unseen are the topics whose limits are not known.
func (l *limits) unseen(events []relay.Event) (topics []string) {
	last := ""
	for i := range events {
		topic := events[i].Record.Topic
		if topic == last || topic == "" {
			continue
		}
		last = topic
		if _, known := l.topics[topic]; !known && !slices.Contains(topics, topic) { // nobody else writes to the map
			topics = append(topics, topic)
		}
	}
	return topics
}

func settingOf(topic *kmsg.DescribeConfigsResponseResource) int32 {
	for _, c := range topic.Configs {
		if c.Name != maxMessageBytes || c.Value == nil {
			continue
		}
		if bytes, err := strconv.ParseInt(*c.Value, 10, 32); err == nil {
			return int32(bytes)
		}
	}
	return unknownLimit
}

// singly reports whether an event is of a topic whose records are sent one by one.
func (l *limits) singly(events []relay.Event) bool {
	return slices.ContainsFunc(events, func(ev relay.Event) bool { return l.singles.has(ev.Record.Topic) })
}

// errGuessed says that a limit is none of the topic's.
var errGuessed = errors.New("the topic may take it, but its settings could not be read, and the client's own limit holds")

// guessed reports whether the limit of a topic is a guess.
func (l *limits) guessed(topic string) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.topics[topic].guessed && l.chosen(topic) >= unknownLimit
}

// tooLarge is the halt for an event that is too large by itself, or whose dead letter is.
func (r *records) tooLarge(ev *relay.Event, rec *kgo.Record, err error) error {
	topic := rec.Topic
	hint := fmt.Sprintf("raise max.message.bytes of topic %s above it, then start the relay again", topic)
	switch chosen := r.limits.chosen(topic); {
	case errors.Is(err, errGuessed):
		hint = fmt.Sprintf("grant the relay's Kafka user DescribeConfigs on topic %s, then start the relay again", topic)
	case chosen != unknownLimit && chosen <= r.limits.of(topic):
		hint = fmt.Sprintf("raise ProducerBatchMaxBytes of the relay's ClientOptions above it, and max.message.bytes of topic %s; then start the relay again", topic)
	}
	return &relay.HaltError{
		Cause: relay.EventTooLarge, From: ev.Position.Commit, Hint: hint,
		Err: fmt.Errorf("event %s at position %s: its record of %d bytes is larger than topic %s takes: %w", ev.ID(), ev.Position, ev.Record.Size(), topic, err),
	}
}

// refused is about a batch that a broker has found too large, although it was within the limits: they were changed, or could not be read. Which of
// its records is to blame nobody knows, if any, until each was sent by itself.
func (r *records) refused(ev *relay.Event, rec *kgo.Record, err error) error {
	topic := rec.Topic
	if r.count(topic) == 1 || r.limits.singles.has(topic) {
		return r.tooLarge(ev, rec, err)
	}
	r.limits.singles.add(topic)
	return &relay.Learned{
		Err: fmt.Errorf("topic %s takes no batch of that size: from now on its events are sent one by one, until the relay is started again: %w", topic, err),
	}
}

// largeness reports a broker's or the client's answer that a batch is too large.
func largeness(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// count is how many records of the batch at hand are for the topic.
func (r *records) count(topic string) (n int) {
	for i := range r.all {
		if r.all[i].Topic == topic {
			n++
		}
	}
	return n
}
