package kafkasink

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/walpost/walpost/relay"
)

// classify turns a broker's answer to one event, or its dead letter, for the topic into the relay's terms: a cause that no retry mends halts, the rest passes.
// The codes are those of https://kafka.apache.org/protocol#protocol_error_codes.
//
// creates says that the relay makes missing topics.
func classify(ev *relay.Event, topic string, err error, creates bool) error {
	halt := func(cause relay.Cause, what, hint string) error {
		return &relay.HaltError{
			Cause: cause, From: ev.Position.Commit, Hint: hint,
			Err: fmt.Errorf("event %s at position %s: %s: %w", ev.ID(), ev.Position, what, err),
		}
	}
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		hint := createCommand(topic) + ", or start the relay with --create-topics"
		if creates {
			hint = "find out who deleted it; the relay creates it when it is started again"
		}
		return halt(relay.TopicMissing, fmt.Sprintf("topic %s does not exist", topic), hint)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return halt(relay.TopicMissing, fmt.Sprintf("topic %s may not be written to", topic),
			fmt.Sprintf("grant the relay's Kafka user Write and Describe on topic %s", topic))
	case errors.Is(err, kerr.InvalidTopicException):
		return halt(relay.Unpublishable, fmt.Sprintf("the broker refuses the topic name %q", topic), "correct --topic")
	case errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp), errors.Is(err, kerr.PolicyViolation):
		return halt(relay.Unpublishable, fmt.Sprintf("topic %s refuses the record", topic),
			fmt.Sprintf("look at the settings of topic %s: a compacted one takes no record without key", topic))
	}
	return authentication(fmt.Errorf("event %s to topic %s: %w", ev.ID(), topic, err))
}

// slowRetry is the pause after a refused login: hurry may lock the account.
const slowRetry = time.Minute

func authentication(err error) error {
	for _, refused := range []error{kerr.SaslAuthenticationFailed, kerr.ClusterAuthorizationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState} {
		if errors.Is(err, refused) {
			return &relay.SlowRetry{Err: err, After: slowRetry}
		}
	}
	return err
}
