package kafka_test

import (
	"bytes"
	"context"
	"encoding/json"
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
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/devstack/child"
	"github.com/walpost/walpost/internal/devstack/childtest"
	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

// TestMain runs the tests or, called with the word broker, starts a broker that should die with this process.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "broker" {
		parent(os.Args[2])
		return
	}
	goleak.VerifyTestMain(m)
}

func TestABrokerServesTransactionsAndKeepsThemOverACrash(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	begin := time.Now()
	b := start(t, cfg)
	first := time.Since(begin)
	rss := stacktest.ResidentMiB(t, b.PID())
	if limit := cfg.HeapMiB + 250; rss > limit {
		t.Errorf("the broker takes %d MiB after its start, want at most %d", rss, limit)
	}
	if got, want := features(t, b)["transaction.version"], int16(2); got != want {
		t.Errorf("transaction.version = %d, want %d", got, want)
	}
	client := connect(t, b)
	if err := client.ProduceSync(t.Context(), kgo.StringRecord("lost")).FirstErr(); err == nil {
		t.Error("producing to a topic that nobody created succeeded, want an error")
	}
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 3, 1, nil, "kept"); err != nil {
		t.Fatalf("create topic: %v", err)
	}
	transact(t, client, "before the crash", kgo.TryCommit)
	transact(t, client, "taken back", kgo.TryAbort)
	settle(t, client)
	b.Kill()
	begin = time.Now()
	b = start(t, cfg)
	recovery := time.Since(begin)
	client = connect(t, b)
	transact(t, client, "after the crash", kgo.TryCommit)
	if err := b.Stop(t.Context()); err != nil {
		t.Fatalf("Stop() = %v", err)
	}
	cfg.Addr, cfg.ControllerPort = stacktest.Addr(t), 0 // a folder is not bound to its ports
	begin = time.Now()
	b = start(t, cfg)
	if diff := cmp.Diff([]string{"before the crash", "after the crash"}, read(t, b, 2)); diff != "" {
		t.Errorf("records differ (-want +got):\n%s", diff)
	}
	fmt.Fprintf(os.Stdout, "counts: Kafka broker first start %.1f s, after kill -9 %.1f s, after a stop %.1f s, %d MiB resident with a heap of at most %d MiB\n",
		first.Seconds(), recovery.Seconds(), time.Since(begin).Seconds(), rss, cfg.HeapMiB)
}

func TestABrokerDiesWithItsParent(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	attach := func() (childtest.Server, error) { return kafka.Attach(t.Context(), cfg.Dir) }
	childtest.DiesWithItsParent(t, 20*time.Second, attach, "broker", string(text))
}

func TestADetachedBrokerIsFoundAgain(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Detach = true
	started := start(t, cfg)
	b, err := kafka.Attach(t.Context(), cfg.Dir)
	if err != nil {
		t.Fatalf("Attach() = %v", err)
	}
	if err := b.Check(t.Context()); err != nil || b.PID() != started.PID() || b.Addr() != cfg.Addr {
		t.Errorf("Check() of process %d at %s = %v, want nil of process %d at %s", b.PID(), b.Addr(), err, started.PID(), cfg.Addr)
	}
	var running *child.RunningError
	if _, err := kafka.Start(t.Context(), cfg); !errors.As(err, &running) {
		t.Errorf("Start() in its folder = %v, want a RunningError", err)
	}
	if err := impostor(t, cfg.Dir).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "another Kafka answers at "+b.Addr()) {
		t.Errorf("Check() of a folder of another cluster = %v, want that another Kafka answers", err)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	if _, err := kafka.Attach(t.Context(), cfg.Dir); !errors.Is(err, child.ErrNotRunning) {
		t.Errorf("Attach() after Stop = %v, want ErrNotRunning", err)
	}
	if log, err := os.ReadFile(filepath.Join(cfg.Dir, "kafka.log")); err != nil || !bytes.Contains(log, []byte("Kafka Server started")) {
		t.Errorf("kafka.log = %d bytes, %v, want the broker's log", len(log), err)
	}
}

func TestABrokerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for _, tt := range []struct {
		name  string
		spoil func(*kafka.Config)
		want  string
	}{
		{"a port that is taken", func(c *kafka.Config) { c.Addr = taken.Addr().String() }, "start Kafka: listen tcp " + taken.Addr().String() + ": bind: address already in use"},
		{
			"a controller port that is taken", func(c *kafka.Config) { c.ControllerPort = taken.Addr().(*net.TCPAddr).Port },
			"Kafka ended while starting: ERROR DataPlaneAcceptor: Unable to start acceptor for CONTROLLER",
		},
		{"a setting that Kafka refuses", func(c *kafka.Config) { c.Settings = map[string]string{"num.io.threads": "none"} }, "Invalid value none for configuration num.io.threads"},
		{"a heap that is too small", func(c *kafka.Config) { c.HeapMiB = 12 }, "OutOfMemoryError"},
		{"an address that other machines reach", func(c *kafka.Config) { c.Addr = "0.0.0.0:9092" }, "start Kafka: address 0.0.0.0:9092: want a port of 127.0.0.1"},
		{"a folder with a comma", func(c *kafka.Config) { c.Dir += ",too" }, "choose one without a comma in its name"},
		{"no port", func(c *kafka.Config) { c.Addr = "127.0.0.1:0" }, "want a port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			tt.spoil(&cfg)
			b, err := kafka.Start(t.Context(), cfg)
			if err == nil {
				b.Kill()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Start() = %v, want %s", err, tt.want)
			}
		})
	}
}

func config(t *testing.T) kafka.Config {
	t.Helper()
	_, port, err := net.SplitHostPort(stacktest.Addr(t))
	if err != nil {
		t.Fatal(err)
	}
	controller, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "with a blank ü and #") // survives every file and command line it goes through
	return kafka.Config{Artifacts: stacktest.Artifacts(t), Dir: dir, Addr: stacktest.Addr(t), ControllerPort: controller, HeapMiB: 256}
}

func start(t *testing.T, cfg kafka.Config) *kafka.Broker {
	t.Helper()
	b, err := kafka.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	t.Cleanup(b.Kill)
	return b
}

// impostor is the broker of the folder, taken for that of another cluster.
func impostor(t *testing.T, dir string) *kafka.Broker {
	t.Helper()
	other := t.TempDir()
	record, err := os.ReadFile(filepath.Join(dir, "process.json"))
	err = errors.Join(err, os.Mkdir(filepath.Join(other, "data"), 0o700), os.WriteFile(filepath.Join(other, "process.json"), record, 0o600),
		os.WriteFile(filepath.Join(other, "data", "meta.properties"), []byte("cluster.id=other\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	b, err := kafka.Attach(t.Context(), other)
	if err != nil {
		t.Fatalf("Attach() = %v", err)
	}
	return b
}

func parent(text string) {
	var cfg kafka.Config
	err := json.Unmarshal([]byte(text), &cfg)
	if err == nil {
		var b *kafka.Broker
		if b, err = kafka.Start(context.Background(), cfg); err == nil {
			fmt.Fprintln(os.Stdout, "up")
			<-b.Exited()
		}
	}
	fmt.Fprintln(os.Stdout, err)
}

func connect(t *testing.T, b *kafka.Broker) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.TransactionalID("test"), kgo.DefaultProduceTopic("kept"), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func transact(t *testing.T, client *kgo.Client, value string, end kgo.TransactionEndTry) {
	t.Helper()
	if err := client.BeginTransaction(); err != nil {
		t.Fatalf("begin: %v", err)
	}
	record := kgo.StringRecord(value)
	record.Key = []byte("one partition")
	if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
		t.Fatalf("produce %q: %v", value, err)
	}
	if err := client.EndTransaction(t.Context(), end); err != nil {
		t.Fatalf("end the transaction of %q: %v", value, err)
	}
}

// settle waits until the broker has carried out the end of the last transaction: see Broker.Kill.
func settle(t *testing.T, client *kgo.Client) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		described, err := kadm.NewClient(client).DescribeTransactions(t.Context(), "test")
		if err != nil {
			t.Fatalf("describe transactions: %v", err)
		}
		state := described["test"].State
		if strings.HasPrefix(state, "Complete") {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 20 s for the end of a transaction, its state is %s", state)
		}
	}
}

// read returns the values of the first n committed records.
func read(t *testing.T, b *kafka.Broker, n int) []string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics("kept"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var values []string
	for len(values) < n {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("waited 20 s for %d records and have %q: %v", n, values, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { values = append(values, string(r.Value)) })
	}
	return values
}

func features(t *testing.T, b *kafka.Broker) map[string]int16 {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "walpost", "test"
	versions, err := request.RequestWith(t.Context(), client)
	if err != nil {
		t.Fatalf("ApiVersions: %v", err)
	}
	finalized := map[string]int16{}
	for _, feature := range versions.FinalizedFeatures {
		finalized[feature.Name] = feature.MaxVersionLevel
	}
	return finalized
}
