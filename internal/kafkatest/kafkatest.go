// Package kafkatest gives a test a Kafka-protocol broker of its own, in process, with faults to inject.
//
// Only _test.go files import it. The broker (kfake) is softer than Kafka: it ends transactions at once, has no replicas and enforces no quotas.
package kafkatest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Cluster is a running broker cluster, closed when its test ends.
type Cluster struct {
	*kfake.Cluster
	Brokers []string // host:port of every broker
}

// Start starts a cluster of one broker unless opts say otherwise. Topics are not created by use.
func Start(t testing.TB, opts ...kfake.Opt) *Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.DefaultNumPartitions(3)}, opts...)...)
	if err != nil {
		t.Fatalf("start the test broker: %v", err)
	}
	t.Cleanup(c.Close)
	return &Cluster{Cluster: c, Brokers: c.ListenAddrs()}
}

// Client connects a client; it is closed when the test ends.
func (c *Cluster) Client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.Brokers...)}, opts...)...)
	if err != nil {
		t.Fatalf("connect to the test broker: %v", err)
	}
	t.Cleanup(client.Close)
	return client
}

// CreateTopic creates a topic with replication factor 1.
func (c *Cluster) CreateTopic(t testing.TB, topic string, partitions int32) {
	t.Helper()
	if _, err := kadm.NewClient(c.Client(t)).CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
		t.Fatalf("create topic %s: %v", topic, err)
	}
}

// Records reads the topic from its beginning, committed records only, until it has n of them, and fails the test when they do not come within the
// limit. Records of one partition are in offset order.
func (c *Cluster) Records(t testing.TB, topic string, n int, limit time.Duration) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("no %d records in topic %s within %v", n, topic, limit))
	defer cancel()
	client := c.Client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer client.Close()
	var records []*kgo.Record
	for len(records) < n {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%v: got %d", context.Cause(ctx), len(records))
		}
		for _, e := range fetches.Errors() {
			t.Fatalf("read topic %s partition %d: %v", e.Topic, e.Partition, e.Err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// EndOffsets is the number of records ever written to each partition of the topic, control records included.
func (c *Cluster) EndOffsets(t testing.TB, topic string) map[int32]int64 {
	t.Helper()
	listed, err := kadm.NewClient(c.Client(t)).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatalf("list end offsets of topic %s: %v", topic, err)
	}
	ends := make(map[int32]int64)
	listed.Each(func(o kadm.ListedOffset) { ends[o.Partition] = o.Offset })
	return ends
}
