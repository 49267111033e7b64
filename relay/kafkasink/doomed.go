package kafkasink

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/relay"
)

// doomed are the topics and events that brokers have refused for good, while dead letters are made of such. All publishers of a Sink share it: the one
// that was refused has ended.
type doomed struct {
	mu     sync.Mutex       // guards what follows
	topics map[string]error // by what the brokers said
	events map[relay.Position]refusal
}

type refusal struct {
	id  string // positions alone say nothing about another log
	err error
}

// maxDoomed bounds what is remembered. What is forgotten is refused again.
const maxDoomed = 10_000

func (d *doomed) addTopic(topic string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.topics == nil || len(d.topics) >= maxDoomed {
		d.topics = make(map[string]error)
	}
	d.topics[topic] = err
}

func (d *doomed) removeTopic(topic string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.topics, topic)
}

func (d *doomed) addEvent(ev *relay.Event, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.events == nil || len(d.events) >= maxDoomed {
		d.events = make(map[relay.Position]refusal)
	}
	d.events[ev.Position] = refusal{ev.ID(), err}
}

// topic is why nothing can be published to a topic, nil when nothing is known against it.
func (d *doomed) topic(topic string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.topics[topic]
}

// event is why the brokers refuse an event.
func (d *doomed) event(ev *relay.Event) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.events[ev.Position]; ok && r.id == ev.ID() {
		return r.err
	}
	return nil
}

func (d *doomed) anyEvent() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.events) > 0
}

// missing are the topics of the events that were missing when they were last looked for.
func (d *doomed) missing(events []relay.Event) (topics []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.topics) == 0 {
		return nil
	}
	seen := make(map[string]bool)
	for i := range events {
		if topic := events[i].Record.Topic; !seen[topic] && unknownTopic(d.topics[topic]) {
			seen[topic] = true
			topics = append(topics, topic)
		}
	}
	return topics
}

// revise forgets what does not hold any more: missing topics of these events that are there now, and events that lie behind us.
func (d *doomed) revise(ctx context.Context, client *kgo.Client, events []relay.Event) error {
	topics := d.missing(events)
	if len(topics) == 0 {
		d.forget(events)
		return nil
	}
	request := kmsg.NewPtrMetadataRequest()
	for _, topic := range topics {
		request.Topics = append(request.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(topic)})
	}
	answer, err := request.RequestWith(ctx, client)
	if err != nil {
		return authentication(fmt.Errorf("look for topics that were missing: %w", err))
	}
	d.forget(events)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, topic := range answer.Topics {
		if topic.Topic != nil && !unknownTopic(kerr.ErrorForCode(topic.ErrorCode)) {
			delete(d.topics, *topic.Topic)
		}
	}
	return nil
}

func (d *doomed) forget(events []relay.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for at := range d.events {
		if len(events) > 0 && at.Compare(events[0].Position) < 0 {
			delete(d.events, at)
		}
	}
}
