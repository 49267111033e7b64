package kafkasink

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/relay"
)

// creator creates topics that it has not seen before, if it is to.
type creator struct {
	enabled bool
	known   map[string]bool
}

// create creates a topic for the event, if it is not there.
func (c *creator) create(ctx context.Context, client *kgo.Client, ev *relay.Event, topic string) error {
	if !c.enabled || c.known[topic] {
		return nil
	}
	if c.known == nil {
		c.known = make(map[string]bool)
	}
	c.known[topic] = true
	admin := kadm.NewClient(client)
	_, err := admin.CreateTopic(ctx, brokersDefault, brokersDefault, nil, topic)
	if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	// Who may not create is told so for topics that are there, too.
	if there, lookErr := admin.ListTopics(ctx, topic); lookErr != nil || !there.Has(topic) {
		return uncreated(ev, topic, err)
	}
	return nil
}

// brokersDefault is the number of partitions or replicas that leaves the choice to the brokers.
const brokersDefault = -1

// uncreated is about a topic that the brokers would not make.
func uncreated(ev *relay.Event, topic string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		hint = fmt.Sprintf("grant the relay's Kafka user Create on topic %s, or as a user who has it: %s", topic, createCommand(topic))
	case errors.Is(err, kerr.InvalidReplicationFactor): // which passes, if brokers are away
		return fmt.Errorf("topic %s does not exist, and there are too few brokers to create it: start those that are away, or %s with the --replication-factor that they can keep: %w",
			topic, createCommand(topic), err)
	case errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.InvalidPartitions):
		hint = createCommand(topic) + ", with the --partitions and --replication-factor that the brokers accept"
	default:
		return classify(ev, topic, fmt.Errorf("create topic: %w", err), true)
	}
	return &relay.HaltError{
		Cause: relay.TopicMissing, From: ev.Position.Commit, Hint: hint,
		Err: fmt.Errorf("event %s at position %s: topic %s does not exist, and the brokers refuse to create it: %w", ev.ID(), ev.Position, topic, err),
	}
}

// createCommand is the command that makes a topic. The names that topics can have need no quotes.
func createCommand(topic string) string { return "walpost topics create --topics " + topic }
