package devstack_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/devstack"
)

const topic = "notif.user.registration"

func TestTheBrokerKeepsRecordsAndOffsetsOverARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	broker := startBroker(t, dir)
	if err := broker.CreateTopic(topic, nil); err != nil {
		t.Fatal(err)
	}
	produce(t, broker.Addr(), "first", "second")
	admin := kadm.NewClient(client(t, broker.Addr()))
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 1, 7, -1)
	if err := admin.CommitAllOffsets(t.Context(), "walpost-notify", offsets); err != nil {
		t.Fatal(err)
	}
	if err := broker.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}

	again := startBroker(t, dir)
	if err := again.CreateTopic(topic, nil); err != nil {
		t.Errorf("CreateTopic(already there) = %v", err)
	}
	if diff := cmp.Diff([]string{"first", "second"}, consume(t, again.Addr(), 2)); diff != "" {
		t.Errorf("records after a restart (-want +got):\n%s", diff)
	}
	fetched, err := kadm.NewClient(client(t, again.Addr())).FetchOffsets(t.Context(), "walpost-notify")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := fetched.Lookup(topic, 1); got.At != 7 {
		t.Errorf("committed offset after a restart = %d, want 7", got.At)
	}
}

func TestTopicsHaveThreePartitionsAndSmallSegments(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir())
	if err := broker.CreateTopic(topic, map[string]string{"retention.ms": "1000"}); err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(client(t, broker.Addr()))
	topics, err := admin.ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	if got := len(topics[topic].Partitions); got != devstack.BrokerPartitions {
		t.Errorf("partitions = %d, want %d", got, devstack.BrokerPartitions)
	}
	configs, err := admin.DescribeTopicConfigs(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range configs[0].Configs {
		if c.Key == "segment.bytes" || c.Key == "retention.ms" {
			got[c.Key] = c.MaybeValue()
		}
	}
	if diff := cmp.Diff(map[string]string{"segment.bytes": "4194304", "retention.ms": "1000"}, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestATopicMadeByAClientHasThreePartitionsUnlessItSaysOtherwise(t *testing.T) {
	t.Parallel()
	admin := kadm.NewClient(client(t, startBroker(t, t.TempDir()).Addr()))
	made, err := admin.CreateTopic(t.Context(), -1, -1, nil, "orders.created")
	if err != nil || made.NumPartitions != devstack.BrokerPartitions {
		t.Errorf("CreateTopic(broker's defaults) = %d partitions, %v, want %d", made.NumPartitions, err, devstack.BrokerPartitions)
	}
}

func TestATopicIsNotMadeByBeingUsed(t *testing.T) {
	t.Parallel()
	c := client(t, startBroker(t, t.TempDir()).Addr(), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(0))
	err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic}).FirstErr()
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("produce to a topic that nobody made = %v, want %v", err, kerr.UnknownTopicOrPartition)
	}
}

func TestASecondBrokerOnTheSameDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	startBroker(t, dir)
	l := listen(t)
	_, err := devstack.StartBroker(t.Context(), devstack.BrokerConfig{Dir: dir, Listener: l})
	var locked *devstack.LockedError
	if !errors.As(err, &locked) || locked.Owner.PID != os.Getpid() {
		t.Errorf("StartBroker(same directory) = %v, want a *LockedError that names process %d", err, os.Getpid())
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the refused broker left its listener open")
	}
}

func TestABrowserAtTheBrokersPortIsHungUpOn(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, t.TempDir())
	for name, bytes := range map[string]string{
		"a length beyond all requests": "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
		"an unknown kind of request":   "\x00\x00\x00\x10\x7f\xff\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", broker.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(bytes)); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: read = %d, %v, want the connection closed", name, n, err)
		}
		_ = conn.Close() // the other side has closed it
	}
	if err := client(t, broker.Addr()).Ping(t.Context()); err != nil {
		t.Errorf("a Kafka client afterwards = %v", err)
	}
}

func TestDataThatCannotBeReadIsAnErrorAndFreesTheDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	meta := filepath.Join(dir, "data", "meta.json")
	if err := os.WriteFile(meta, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := devstack.StartBroker(t.Context(), devstack.BrokerConfig{Dir: dir, Listener: listen(t)}); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("StartBroker(broken data) = %v, want an error that names %s", err, dir)
	}
	if err := os.Remove(meta); err != nil {
		t.Fatal(err)
	}
	startBroker(t, dir)
}

func startBroker(t *testing.T, dir string) *devstack.Broker {
	t.Helper()
	broker, err := devstack.StartBroker(t.Context(), devstack.BrokerConfig{Dir: dir, Listener: listen(t)})
	if err != nil {
		t.Fatalf("StartBroker() = %v", err)
	}
	t.Cleanup(func() { _ = broker.Close() }) // the test may have closed it
	return broker
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// produce writes the values to one partition of the topic, in order.
func produce(t *testing.T, addr string, values ...string) {
	t.Helper()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: topic, Key: []byte("key"), Value: []byte(v)})
	}
	if err := client(t, addr).ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatalf("produce: %v", err)
	}
}

func consume(t *testing.T, addr string, n int) (values []string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, fmt.Errorf("no %d records within 20 s", n))
	defer cancel()
	c := client(t, addr, kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()))
	for len(values) < n {
		c.PollFetches(ctx).EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
		if ctx.Err() != nil {
			t.Fatalf("%v: got %d", context.Cause(ctx), len(values))
		}
	}
	return values
}
