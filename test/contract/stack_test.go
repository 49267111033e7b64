package contract_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/maven"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

// stack is a real Kafka broker and a real worker of Kafka Connect with Debezium.
type stack struct {
	dir    string
	broker *kafka.Broker
	worker *connect.Worker
}

// shared is the stack that all tests of this process use; started by the first of them, stopped by TestMain.
var shared struct {
	once  sync.Once
	stack *stack
	err   error
}

func realStack(t *testing.T) *stack {
	t.Helper()
	artifacts := stacktest.Artifacts(t)
	addrs := []string{stacktest.Addr(t), stacktest.Addr(t), stacktest.Addr(t)}
	shared.once.Do(func() { shared.stack, shared.err = startStack(context.Background(), artifacts, addrs) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.stack
}

func startStack(ctx context.Context, artifacts maven.Artifacts, addrs []string) (s *stack, err error) {
	s = &stack{}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "walpost-contract-"); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addrs[1])
	if err != nil {
		return nil, err
	}
	controller, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	s.broker, err = kafka.Start(ctx, kafka.Config{
		Artifacts: artifacts, Dir: filepath.Join(s.dir, "kafka"), Addr: addrs[0], ControllerPort: controller,
		Settings: map[string]string{"auto.create.topics.enable": "false"},
	})
	if err != nil {
		return nil, err
	}
	s.worker, err = connect.Start(ctx, connect.Config{
		Artifacts: artifacts, Dir: filepath.Join(s.dir, "connect"), Brokers: []string{s.broker.Addr()}, Addr: addrs[2],
		Settings: map[string]string{"exactly.once.source.support": "enabled"},
	})
	return s, err
}

func stopStack() {
	if shared.stack != nil {
		shared.stack.stop()
	}
}

// stop kills: the data dies with the tests.
func (s *stack) stop() {
	if s.worker != nil {
		s.worker.Kill()
	}
	if s.broker != nil {
		s.broker.Kill()
	}
	_ = os.RemoveAll(s.dir) // best effort in the system's temporary folder
}

// client speaks to the worker of the stack.
func (s *stack) client(t *testing.T) *debezium.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client, err := debezium.NewClient(s.worker.URL(), debezium.ClientConfig{
		HTTP: &http.Client{Transport: transport}, Settle: 2 * time.Second, Poll: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// apply makes a connector run; it is deleted when the test ends.
func (s *stack) apply(t *testing.T, c debezium.Config) {
	t.Helper()
	config, err := c.Connector()
	if err != nil {
		t.Fatal(err)
	}
	client := s.client(t)
	t.Cleanup(func() {
		if _, err := client.Delete(context.Background(), c.Name); err != nil && !errors.Is(err, debezium.ErrNotFound) {
			t.Errorf("Delete(%s) = %v, want no error", c.Name, err)
		}
	})
	if _, err := client.Apply(t.Context(), config, 2*time.Minute); err != nil {
		t.Fatalf("Apply(%s) = %v, want no error", c.Name, err)
	}
}

// kafka is a client of the broker; it is closed when the test ends.
func (s *stack) kafka(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(s.broker.Addr()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// partitions of each topic that a test makes.
const partitions = 3

func (s *stack) createTopics(t *testing.T, topics ...string) {
	t.Helper()
	responses, err := kadm.NewClient(s.kafka(t)).CreateTopics(t.Context(), partitions, 1, nil, topics...)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		t.Fatalf("CreateTopics(%v) = %v, want no error", topics, err)
	}
}

// topics are all of the broker's.
func (s *stack) topics(t *testing.T) kadm.TopicDetails {
	t.Helper()
	topics, err := kadm.NewClient(s.kafka(t)).ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return topics
}

// ends are how far each topic of the broker goes, all partitions added up.
func (s *stack) ends(t *testing.T) map[string]int64 {
	t.Helper()
	offsets, err := kadm.NewClient(s.kafka(t)).ListEndOffsets(t.Context())
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	ends := make(map[string]int64)
	offsets.Each(func(o kadm.ListedOffset) { ends[o.Topic] += o.Offset })
	return ends
}

// reader collects the committed records of topics.
type reader struct {
	t       *testing.T
	client  *kgo.Client
	records map[string][]*kgo.Record // by topic
	n       int                      // records in all
}

func (s *stack) reader(t *testing.T, topics ...string) *reader {
	t.Helper()
	client := s.kafka(t, kgo.ConsumeTopics(topics...), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	return &reader{t: t, client: client, records: make(map[string][]*kgo.Record)}
}

// read waits until n records have come in all.
func (r *reader) read(n int) {
	r.t.Helper()
	const limit = 2 * time.Minute
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	for r.n < n {
		r.client.PollFetches(ctx).EachRecord(func(rec *kgo.Record) {
			r.records[rec.Topic] = append(r.records[rec.Topic], rec)
			r.n++
		})
		if ctx.Err() != nil {
			have := make(map[string]int)
			for topic, records := range r.records {
				have[topic] = len(records)
			}
			r.t.Fatalf("%d records within %v, want %d; by topic: %v", r.n, limit, n, have)
		}
	}
}

// until repeats f until it succeeds; at ctx's end it tells the cause and f's last error.
func until(ctx context.Context, f func(context.Context) error) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
