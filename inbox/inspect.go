package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// inspect is the role that refuses topics which Kafka compacts: there an event vanishes, unread, as soon as its key has a later one, and so
// does a dead letter. It runs beside the others, because what is there may be applied in any case, and ends when it has seen all topics.
func (r *run) inspect(ctx context.Context) error {
	admin := kadm.NewClient(r.client)
	unseen := append(slices.Clone(r.cfg.Topics), r.cfg.DeadLetterTopic)
	for n := 1; ; n++ {
		var err error
		if unseen, err = r.refuseCompacted(ctx, admin, unseen); err != nil || len(unseen) == 0 {
			return err
		}
		if pause(ctx, exponential(r.cfg.Retry.Min, r.cfg.Retry.Max, outageGrowth, n)) != nil {
			return nil
		}
	}
}

// refuseCompacted gives an error when one of the topics is compacted, and otherwise returns those that Kafka did not tell of. What this user
// may not see is taken to be right.
func (r *run) refuseCompacted(ctx context.Context, admin *kadm.Client, topics []string) (unseen []string, err error) {
	configs, err := admin.DescribeTopicConfigs(ctx, topics...)
	_, forbidden := errors.AsType[*kadm.AuthError](err)
	if forbidden {
		r.cfg.Logger.Warn("whether topics are compacted cannot be seen without the ACL DescribeConfigs on them", "error", err)
	}
	for _, topic := range topics {
		config, err := configs.On(topic, nil)
		if err != nil || config.Err != nil {
			if !forbidden {
				unseen = append(unseen, topic)
			}
			continue
		}
		for _, entry := range config.Configs {
			if entry.Key == "cleanup.policy" && strings.Contains(entry.MaybeValue(), "compact") {
				return nil, fmt.Errorf("topic %s has cleanup.policy %s: Kafka drops all but the last event of a key, read or not; set it to delete "+
					"(kafka-configs.sh --alter --entity-type topics --entity-name %s --add-config cleanup.policy=delete) and start again",
					topic, entry.MaybeValue(), topic)
			}
		}
	}
	return unseen, nil
}

// lookEvery is how often the end of a log is asked for that is not read, and lookLimit how long the answer may take.
const (
	lookEvery = 5 * time.Second
	lookLimit = 3 * time.Second
)

// lookAhead is the role that finds out where the log ends of partitions that are paused: what is read says so by itself, and without it the
// lag would stand still just when it grows.
func (r *run) lookAhead(ctx context.Context) error {
	if r.observe.lag == nil {
		return nil
	}
	admin := kadm.NewClient(r.client)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		paused := slices.DeleteFunc(r.held(), func(p *partition) bool { return !r.pauser.isPaused(p) })
		var topics []string
		for _, p := range paused {
			topics = append(topics, p.topic)
		}
		slices.Sort(topics)
		if topics = slices.Compact(topics); len(topics) == 0 {
			continue
		}
		asking, enough := context.WithTimeout(ctx, lookLimit)
		ends, _ := admin.ListCommittedOffsets(asking, topics...) // an error leaves the lag as it was
		enough()
		for _, p := range paused {
			if end, found := ends.Lookup(p.topic, p.number); found && end.Err == nil {
				p.saw(end.Offset)
			}
		}
	}
}
