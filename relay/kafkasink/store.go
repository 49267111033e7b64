package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/relay"
)

// store is the watermark topic.
type store struct {
	sink   *Sink
	origin relay.Origin // whose watermark; for Prepare nobody's
	topic  string
	client *kgo.Client
	admin  *kadm.Client // on the client
}

func (s *Sink) store(client *kgo.Client, o relay.Origin) store {
	return store{sink: s, origin: o, topic: s.cfg.WatermarkTopic, client: client, admin: kadm.NewClient(client)}
}

// adopt is what to run when there is no usable watermark.
func (s store) adopt() string {
	return s.origin.SlotCommand("status") + ", then " + s.origin.SlotCommand("adopt")
}

func (s store) unusable(err error, hint string) error {
	return &relay.HaltError{Cause: relay.WatermarkUnusable, From: s.origin.Confirmed, Err: err, Hint: hint}
}

// orAtLeastOnce ends a hint about what exactly once needs beside the right to write events, which is all that who did not choose it may have.
const orAtLeastOnce = "; or start the relay with --delivery at-least-once"

// classify turns a broker's answer about the watermark topic into the relay's terms.
func (s store) classify(err error) error {
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return s.unusable(fmt.Errorf("topic %s, which keeps the watermark, is gone: %w", s.topic, err),
			"find out who deleted it; "+s.adopt())
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return s.unusable(fmt.Errorf("topic %s, which keeps the watermark, may not be used: %w", s.topic, err),
			fmt.Sprintf("grant the relay's Kafka user Read, Write, Describe and DescribeConfigs on topic %s%s", s.topic, orAtLeastOnce))
	}
	return err
}

// explainCreate is about a topic that the brokers do not let us make. That they cannot make it right now passes.
func (s store) explainCreate(err error) error {
	for _, refused := range []error{
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.PolicyViolation, kerr.InvalidConfig, kerr.InvalidTopicException,
	} {
		if errors.Is(err, refused) {
			return s.unusable(fmt.Errorf("topic %s, which is to keep the watermark, does not exist and cannot be created: %w", s.topic, err),
				fmt.Sprintf("as a user who may: kafka-topics.sh --create --topic %s --partitions 1 --config cleanup.policy=compact%s", s.topic, orAtLeastOnce))
		}
	}
	return err
}

// ensure is nil when the topic is there and keeps the last record of a key for ever.
func (s store) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fenceTimeout, fmt.Errorf("topic %s was not there within %v", s.topic, fenceTimeout))
	defer cancel()
	for created := false; ; {
		switch err := s.look(ctx); {
		case err == nil:
			return s.checkConfig(ctx)
		case errors.Is(err, kerr.UnknownTopicOrPartition) && !created:
			if err := s.create(ctx); err != nil {
				return s.explainCreate(fmt.Errorf("create topic %s: %w", s.topic, err))
			}
			created = true
		case !created && !errors.Is(err, kerr.LeaderNotAvailable):
			return s.classify(fmt.Errorf("look at topic %s: %w", s.topic, err))
		}
		if err := pause(ctx, lookEvery); err != nil {
			return err
		}
	}
}

// look is nil when the topic can be written to. It asks by itself, because the admin client remembers for some seconds that a topic is missing.
func (s store) look(ctx context.Context) error {
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr(s.topic)}}
	answer, err := request.RequestWith(ctx, s.client)
	if err != nil {
		return err
	}
	for _, topic := range answer.Topics {
		if err := kerr.ErrorForCode(topic.ErrorCode); err != nil {
			return err
		}
		for _, partition := range topic.Partitions {
			if partition.Partition == watermarkPartition {
				return kerr.ErrorForCode(partition.ErrorCode)
			}
		}
	}
	return kerr.LeaderNotAvailable
}

// create makes the topic as durable as the cluster can. Every transaction writes to it, so its segments are small and what compaction leaves of
// old transactions goes soon: else a start would read gigabytes in a day.
func (s store) create(ctx context.Context) error {
	brokers, err := s.admin.ListBrokers(ctx)
	if err != nil {
		return err
	}
	replicas := min(3, len(brokers))
	configs := map[string]*string{
		"cleanup.policy":      kadm.StringPtr("compact"),
		"min.insync.replicas": kadm.StringPtr(strconv.Itoa(max(1, replicas-1))),
		"segment.bytes":       kadm.StringPtr("16777216"),
		"delete.retention.ms": kadm.StringPtr("600000"),
	}
	_, err = s.admin.CreateTopic(ctx, 1, int16(replicas), configs, s.topic)
	if errors.Is(err, kerr.TopicAlreadyExists) { // another relay was faster
		return nil
	}
	if err == nil {
		s.sink.cfg.Logger.Info("kafka sink has created the topic for its watermark", "topic", s.topic, "replicas", replicas)
	}
	return err
}

func (s store) checkConfig(ctx context.Context) error {
	configs, err := s.admin.DescribeTopicConfigs(ctx, s.topic)
	if err == nil && len(configs) == 1 {
		err = configs[0].Err
	}
	if err != nil {
		return s.classify(fmt.Errorf("look at the settings of topic %s: %w", s.topic, err))
	}
	for _, resource := range configs {
		for _, c := range resource.Configs {
			if c.Key == "cleanup.policy" && c.MaybeValue() != "compact" {
				return s.unusable(fmt.Errorf("topic %s has cleanup.policy=%s, so that it forgets watermarks", s.topic, c.MaybeValue()),
					fmt.Sprintf("set cleanup.policy=compact of topic %s, then start the relay again", s.topic))
			}
		}
	}
	return nil
}

// lookEvery is how often something that another party has to do is looked at.
const lookEvery = 20 * time.Millisecond

// pause waits; it returns the cause of ctx's end when that comes first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// checkEnds halts when a topic ends before what was written to it: its brokers lost what they had acknowledged, or it was deleted and made again. A topic
// that is not there any more is forgotten. What is left is returned.
func (s store) checkEnds(ctx context.Context, k kept) (offsets, error) {
	left := offsets{}
	if len(k.Offsets) == 0 {
		return left, nil
	}
	topics := make([]string, 0, len(k.Offsets))
	for topic := range k.Offsets {
		topics = append(topics, topic)
	}
	slices.Sort(topics)
	ends, err := s.admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("look at the ends of topics: %w", err)
	}
	var short []string
	for _, topic := range topics {
		if gone, ok := ends.Lookup(topic, -1); ok && errors.Is(gone.Err, kerr.UnknownTopicOrPartition) {
			s.sink.cfg.Logger.Warn("a topic that events were published to is gone", "topic", topic)
			continue
		}
		for partition, written := range k.Offsets[topic] {
			if written < 0 {
				continue
			}
			end, ok := ends.Lookup(topic, int32(partition))
			if !ok || end.Err != nil {
				return nil, fmt.Errorf("look at the end of topic %s partition %d: %w", topic, partition, errors.Join(end.Err, missing(ok)))
			}
			if end.Offset <= written {
				short = append(short, fmt.Sprintf("%s partition %d ends at offset %d, and offset %d was written", topic, partition, end.Offset, written))
			}
		}
		left[topic] = k.Offsets[topic]
	}
	if len(short) > 0 {
		return nil, &relay.HaltError{
			Cause: relay.TopicTruncated, From: relay.LSN(k.Commit), Err: fmt.Errorf("events that Kafka had acknowledged are gone: %s", strings.Join(short, "; ")),
			Hint: "find the rows of that time in the outbox table; " + s.adopt() + " to go on behind them",
		}
	}
	return left, nil
}

func missing(ok bool) error {
	if ok {
		return nil
	}
	return errors.New("the brokers do not list it")
}
