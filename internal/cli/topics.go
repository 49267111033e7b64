package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/config"
)

func newTopicsCommand(p *program) *cobra.Command {
	return parent(&cobra.Command{Use: "topics", Short: "Create and check the topics"}, newTopicsCreateCommand(p), newTopicsCheckCommand(p))
}

func newTopicsCreateCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create the topics that are missing; the others stay as they are",
		Long: `Create the topics that are missing; the others stay as they are. With --raw also the topic of a raw connector's rows, for kafka-consumer --forward:
it and the dead-letter topic then take records of twice the size, since a row is JSON in JSON.`,
		Example: `  walpost topics create --kafka-brokers kafka:9092 --partitions 12 --replication-factor 3
  walpost topics create --raw`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			states, err := ensureTopics(cmd.Context(), p.cfg)
			if err != nil {
				return err
			}
			return p.printTopics(states)
		},
	}
	config.Flags(cmd.Flags(), "kafka-brokers", "topics", "dead-letter-topic", "raw", "raw-topic", "partitions", "replication-factor")
	return cmd
}

func newTopicsCheckCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check that the topics are there and keep every event",
		Long: `Check that the topics are there, keep every event (no compaction) and take the largest one that the outbox lets in. With --raw also the topic of a
raw connector's rows.
Exit code 0: all is well, 1: a topic has a problem, 4: a topic is missing.`,
		Example: "  walpost topics check --output json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			states, err := checkTopics(cmd.Context(), p.cfg)
			if err != nil {
				return err
			}
			if err := p.printTopics(states); err != nil {
				return err
			}
			return verdict(p.cfg, states)
		},
	}
	config.Flags(cmd.Flags(), "kafka-brokers", "topics", "dead-letter-topic", "raw", "raw-topic")
	return cmd
}

// topicState is a line of the result.
type topicState struct {
	Topic      string `json:"topic"`
	State      string `json:"state"`
	Partitions int    `json:"partitions"`
	Problem    string `json:"problem,omitempty"`
}

const (
	topicCreated = "created"
	topicThere   = "there"
	topicMissing = "missing"
)

func (p *program) printTopics(states []topicState) error {
	rows := [][]string{{"TOPIC", "STATE", "PARTITIONS", "PROBLEM"}}
	for _, s := range states {
		rows = append(rows, []string{s.Topic, s.State, strconv.Itoa(s.Partitions), s.Problem})
	}
	return p.print(states, rows)
}

func allTopics(cfg config.Config) []string {
	topics := append(slices.Clone(cfg.Topics), cfg.DeadLetterTopic)
	if cfg.Raw {
		topics = append(topics, cfg.RawTopic)
	}
	return topics
}

// creates is the command that makes a missing topic.
func creates(cfg config.Config, topic string) string {
	if topic == cfg.RawTopic {
		return "walpost topics create --raw"
	}
	return "walpost topics create"
}

// leastBytes is what max.message.bytes of a topic must be at least. A dead letter of the forwarder is a raw row.
func leastBytes(cfg config.Config, topic string) int {
	if cfg.Raw && (topic == cfg.RawTopic || topic == cfg.DeadLetterTopic) {
		return debezium.RawMaxBytes
	}
	return minMessageBytes
}

func ensureTopics(ctx context.Context, cfg config.Config) ([]topicState, error) {
	admin, err := kafkaAdmin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	fresh := make(map[string]bool)
	for _, topic := range allTopics(cfg) {
		if fresh[topic], err = createTopic(ctx, admin, cfg, topic); err != nil {
			return nil, err
		}
	}
	states, err := listTopics(ctx, admin, cfg)
	for i := range states {
		if fresh[states[i].Topic] {
			states[i].State, states[i].Partitions = topicCreated, cfg.Partitions // the metadata may lag behind
		}
	}
	return states, err
}

// createTopic reports whether it made the topic; false: it was there.
func createTopic(ctx context.Context, admin *kadm.Client, cfg config.Config, topic string) (bool, error) {
	var settings map[string]*string
	if least := leastBytes(cfg, topic); least > minMessageBytes {
		settings = map[string]*string{maxMessageBytes: new(strconv.Itoa(least))}
	}
	created, err := admin.CreateTopics(ctx, int32(cfg.Partitions), int16(cfg.ReplicationFactor), settings, topic)
	if err != nil {
		return false, kafkaError(cfg, err)
	}
	switch answer := created[topic]; {
	case errors.Is(answer.Err, kerr.TopicAlreadyExists):
		return false, nil
	case answer.Err != nil:
		return false, fmt.Errorf("create topic %s: %w %s", topic, answer.Err, answer.ErrMessage)
	}
	return true, nil
}

func listTopics(ctx context.Context, admin *kadm.Client, cfg config.Config) ([]topicState, error) {
	topics := allTopics(cfg)
	details, err := admin.ListTopics(ctx, topics...)
	if err != nil {
		return nil, kafkaError(cfg, err)
	}
	states := make([]topicState, len(topics))
	for i, topic := range topics {
		states[i] = topicState{Topic: topic, State: topicThere, Partitions: len(details[topic].Partitions)}
		if !details.Has(topic) {
			states[i] = topicState{Topic: topic, State: topicMissing, Problem: "create it: " + creates(cfg, topic)}
		}
	}
	return states, nil
}

func checkTopics(ctx context.Context, cfg config.Config) ([]topicState, error) {
	admin, err := kafkaAdmin(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	states, err := listTopics(ctx, admin, cfg)
	if err != nil {
		return nil, err
	}
	var there []string
	for _, s := range states {
		if s.State == topicThere {
			there = append(there, s.Topic)
		}
	}
	if len(there) == 0 {
		return states, nil
	}
	configs, err := admin.DescribeTopicConfigs(ctx, there...)
	if err != nil {
		return nil, kafkaError(cfg, err)
	}
	for i := range states {
		if found, err := configs.On(states[i].Topic, nil); err == nil {
			states[i].Problem = topicProblem(found, leastBytes(cfg, states[i].Topic))
		}
	}
	return states, nil
}

// minMessageBytes is Kafka's own default of max.message.bytes; the outbox refuses events that would not fit into it.
const minMessageBytes = 1_048_588

const maxMessageBytes = "max.message.bytes"

func topicProblem(c kadm.ResourceConfig, least int) string {
	for _, entry := range c.Configs {
		switch entry.Key {
		case "cleanup.policy":
			if strings.Contains(entry.MaybeValue(), "compact") {
				return "cleanup.policy has compact, which drops all but the last event of a key: set it to delete"
			}
		case maxMessageBytes:
			if n, err := strconv.Atoi(entry.MaybeValue()); err == nil && n < least {
				return fmt.Sprintf("max.message.bytes is %d, and an event may be larger: set it to %d or more", n, least)
			}
		}
	}
	return ""
}

func verdict(cfg config.Config, states []topicState) error {
	for _, s := range states {
		if s.State == topicMissing {
			return notFound("topic %s is missing: create it with `%s`", s.Topic, creates(cfg, s.Topic))
		}
	}
	for _, s := range states {
		if s.Problem != "" {
			return fmt.Errorf("topic %s: %s", s.Topic, s.Problem)
		}
	}
	return nil
}
