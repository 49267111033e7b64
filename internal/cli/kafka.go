package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
)

// connectTimeout is how long a command that is not a server waits for a database or a broker.
const connectTimeout = 5 * time.Second

// silence is after what time the health checks give a broker up that does not answer, and ask the next: they have two seconds in all, and a
// client that dials does not look at its context.
const silence = time.Second

// kafkaAdmin connects to the brokers and proves that one answers. The caller closes the client.
func kafkaAdmin(ctx context.Context, cfg config.Config) (*kadm.Client, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.KafkaBrokers...), kgo.ClientID("walpost"), kgo.RequestRetries(1))
	if err != nil {
		return nil, fmt.Errorf("Kafka client: %w", err)
	}
	if err := pingKafka(ctx, client); err != nil {
		client.Close()
		return nil, kafkaError(cfg, err)
	}
	return kadm.NewClient(client), nil
}

// pingKafka asks any broker for an answer within connectTimeout, or within ctx when that is shorter.
func pingKafka(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	return client.Ping(ctx)
}

// kafkaError says which brokers did not answer, or what they do not permit, and what to do.
func kafkaError(cfg config.Config, err error) error {
	if _, refused := errors.AsType[*kadm.AuthError](err); refused {
		return fmt.Errorf("Kafka at %s does not permit this: %w: grant this client's user the ACLs Describe and DescribeConfigs on the topics, "+
			"and Create to make them (kafka-acls.sh --add)", strings.Join(cfg.KafkaBrokers, ","), innermost(err))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", connectTimeout)
	}
	return fmt.Errorf("Kafka at %s cannot be reached: %w: start it, or name its brokers with --kafka-brokers", strings.Join(cfg.KafkaBrokers, ","), innermost(err))
}

// checkKafka makes the process ready only while the brokers answer and have the topics. Call stop when the part has ended.
func checkKafka(cfg config.Config, o *ops.Ops, topics ...string) (stop func(), err error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.KafkaBrokers...), kgo.ClientID("walpost-health"), kgo.RequestRetries(1),
		kgo.DialTimeout(silence), kgo.RequestTimeoutOverhead(silence))
	if err != nil {
		return nil, fmt.Errorf("Kafka client: %w", err)
	}
	o.Health.Register("kafka", client.Ping)
	if len(topics) > 0 {
		o.Health.Register("topic", func(ctx context.Context) error { return haveTopics(ctx, kadm.NewClient(client), cfg, topics) })
	}
	return client.Close, nil
}

func haveTopics(ctx context.Context, admin *kadm.Client, cfg config.Config, topics []string) error {
	details, err := admin.ListTopics(ctx, topics...)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		if !details.Has(topic) {
			return fmt.Errorf("topic %s is missing: create it with `%s`", topic, creates(cfg, topic))
		}
	}
	return nil
}
