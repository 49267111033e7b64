package chaos

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/freeport"
)

// watermarkTopic is where the relay keeps its watermarks.
const watermarkTopic = "outbox.relay.watermarks"

// startBroker starts Kafka with a listener of its own for the relays: to who comes by it the broker names the proxy as its address, so that all of a
// relay's traffic goes through the proxy. The workload's consumer and our questions come by the other one.
func (w *World) startBroker(ctx context.Context) error {
	var addrs [4]string
	for i := range addrs {
		var err error
		if addrs[i], err = freeport.Addr(); err != nil {
			return err
		}
	}
	own, behind, front, controller := addrs[0], addrs[1], addrs[2], addrs[3]
	var err error
	if w.toBroker, err = newProxy(ctx, front, behind); err != nil {
		return err
	}
	_, controllerPort, _ := strings.Cut(controller, ":")
	w.kafka = kafka.Config{Artifacts: w.stack.Artifacts, Dir: w.path("kafka"), Addr: own, Settings: map[string]string{
		"listeners":                      "PLAINTEXT://" + own + ",RELAYS://" + behind + ",CONTROLLER://" + controller,
		"advertised.listeners":           "PLAINTEXT://" + own + ",RELAYS://" + front,
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,RELAYS:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name":     "PLAINTEXT",
		"broker.session.timeout.ms":      "1500", // which a broker that was killed waits for when it comes back: 9 s by default
		"broker.heartbeat.interval.ms":   "300",
	}}
	if w.kafka.ControllerPort, err = strconv.Atoi(controllerPort); err != nil {
		return err
	}
	if w.broker, err = kafka.Start(ctx, w.kafka); err != nil {
		return err
	}
	if w.client, err = kgo.NewClient(directly(w.broker.Addr())...); err != nil {
		return err
	}
	w.admin = kadm.NewClient(w.client)
	// The relay would make it with segments that are compacted soon, and so of some transactions it would not show the watermark any more.
	compact := "compact"
	return w.createTopics(ctx, 1, map[string]*string{"cleanup.policy": &compact}, watermarkTopic)
}

// directly are the options of our own clients. A broker that was away is looked for again soon.
func directly(addr string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(addr), kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(5 * time.Second),
		kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }), kgo.DialTimeout(askLimit),
	}
}

// createTopics returns when the broker serves every partition.
func (w *World) createTopics(ctx context.Context, partitions int32, config map[string]*string, topics ...string) error {
	responses, err := w.admin.CreateTopics(ctx, partitions, 1, config, topics...)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		return fmt.Errorf("create topics %s: %w", strings.Join(topics, ", "), err)
	}
	return w.awaitServed(ctx, topics...)
}

// awaitServed waits until the broker leads every partition of the topics.
func (w *World) awaitServed(ctx context.Context, topics ...string) error {
	return await(ctx, serveLimit, "Kafka serves "+strings.Join(topics, ", "), func(ctx context.Context) error {
		offsets, err := w.admin.ListEndOffsets(ctx, topics...)
		if err == nil {
			err = offsets.Error()
		}
		if err == nil && len(offsets) < len(topics) {
			err = fmt.Errorf("it lists %d topics", len(offsets))
		}
		return err
	})
}

// killBroker kills Kafka at a moment at which no transaction is between its decision and its markers. A transaction in between would never be ended by a
// broker that is alone (KAFKA-20734, see kafka.Broker.Kill), which is no fault of the relay's and no fault of a cluster of several. What the relays were
// about to send, or the answers to what they had sent, is lost.
func (w *World) killBroker(ctx context.Context, way string) error {
	if way == deaf {
		w.toBroker.down.set(lose)
	} else {
		w.toBroker.down.set(hold)
	}
	w.toBroker.up.set(hold)
	err := await(ctx, serveLimit, "no transaction is being ended", w.noneEnding)
	if err == nil {
		w.broker.Kill()
	}
	w.toBroker.refuse()
	w.toBroker.up.set(open)
	w.toBroker.down.set(open)
	return err
}

// noneEnding is nil when no transaction has been decided and not been carried out.
func (w *World) noneEnding(ctx context.Context) error {
	list, err := w.admin.ListTransactions(ctx, nil, []string{"PrepareCommit", "PrepareAbort"})
	if err == nil && len(list) > 0 {
		err = fmt.Errorf("%d are", len(list))
	}
	return err
}

// reviveBroker starts Kafka again. Relays reach it when it leads its partitions: before that it might pass over a marker, as above.
func (w *World) reviveBroker(ctx context.Context, after time.Duration, topics []string) error {
	if err := pause(ctx, after); err != nil {
		return err
	}
	broker, err := kafka.Start(ctx, w.kafka)
	if err != nil {
		return err
	}
	w.broker = broker
	if err := w.awaitServed(ctx, append([]string{watermarkTopic, "__transaction_state"}, topics...)...); err != nil {
		return err
	}
	w.toBroker.admit()
	return nil
}

// limitTopics makes the topics take batches of so many bytes at most; zero: what they took at first.
func (w *World) limitTopics(ctx context.Context, bytes int, topics []string) error {
	change := kadm.AlterConfig{Op: kadm.DeleteConfig, Name: "max.message.bytes"}
	if bytes > 0 {
		value := strconv.Itoa(bytes)
		change = kadm.AlterConfig{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &value}
	}
	return await(ctx, serveLimit, "the topics have another limit", func(ctx context.Context) error {
		responses, err := w.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topics...)
		for _, r := range responses {
			err = errors.Join(err, r.Err)
		}
		return err
	})
}

// await asks until the answer is nil, each time for askLimit at most.
func await(ctx context.Context, limit time.Duration, what string, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	for {
		asking, done := context.WithTimeout(ctx, askLimit)
		err := ask(asking)
		done()
		if err == nil {
			return nil
		}
		if ended := pause(ctx, 20*time.Millisecond); ended != nil {
			return fmt.Errorf("wait until %s: %w: %w", what, ended, err)
		}
	}
}
