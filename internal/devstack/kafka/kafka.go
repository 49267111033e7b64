// Package kafka runs one real Kafka broker as a child process: KRaft, broker and controller in one JVM, on loopback.
//
// It is for development, tests and benchmarks, not for production: one broker, one copy of everything, no authentication. It is not a client either.
// The invariant: at most one broker runs on a folder, the broker that Start returned is the one on its address, and none outlives the process that
// started it unless that was asked for.
package kafka

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"strconv"
	"time"

	"github.com/walpost/walpost/internal/devstack/child"
	"github.com/walpost/walpost/internal/devstack/jvm"
	"github.com/walpost/walpost/internal/devstack/maven"
)

// startTimeout bounds a start; one takes 3 to 10 s, and longer when a large log has to be read after a crash.
const startTimeout = 90 * time.Second

// Config says what Start starts.
type Config struct {
	Artifacts      maven.Artifacts
	Dir            string            // the broker's folder: data, settings, log; made when missing; required
	Addr           string            // loopback address and port for clients; default 127.0.0.1:9092
	ControllerPort int               // on 127.0.0.1; default the port of Addr plus one
	HeapMiB        int               // limit of the heap; the process takes up to some 200 MiB more; default 512
	Settings       map[string]string // further broker settings, which win over ours; default none
	JavaOptions    []string          // further options of the JVM, which win over ours; default none
	Log            io.Writer         // the broker's errors; default discarded. All of its log is in Dir/kafka.log
	Detach         bool              // the broker outlives this process and is found again with Attach; default false
}

func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, "127.0.0.1:9092")
	c.HeapMiB = cmp.Or(c.HeapMiB, 512)
	return c
}

// Broker is a running broker. Its methods are safe for concurrent use.
type Broker struct {
	proc    *child.Process
	cluster string // id: proves that it is this broker who answers
}

// Start gives the folder a cluster id when it is new, stops a broker that an earlier process left behind there, starts the broker and returns when it
// serves clients. It returns a *child.RunningError when a detached broker runs there. A broker that cannot start is an error with its own last words.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	cfg = cfg.withDefaults()
	dir, err := jvm.Place(cfg.Dir, cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	settings, err := cfg.Properties(filepath.Join(dir, "data"))
	if err != nil {
		return nil, fmt.Errorf("start Kafka: %w", err)
	}
	b := &Broker{}
	if b.cluster, err = format(ctx, cfg.Artifacts, dir, settings); err != nil {
		return nil, fmt.Errorf("data directory of Kafka: %w", err)
	}
	b.proc, err = jvm.Start(ctx, jvm.Server{
		Name: "Kafka", Main: "kafka.Kafka", Properties: settings, Artifacts: cfg.Artifacts, Dir: dir, Addr: cfg.Addr,
		HeapMiB: cfg.HeapMiB, Options: cfg.JavaOptions, Log: cfg.Log, Detach: cfg.Detach,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := b.proc.Await(ctx, 50*time.Millisecond, b.Check); err != nil {
		b.Kill()
		return nil, err
	}
	return b, nil
}

// Attach finds the broker that runs on the folder, whoever started it. It returns child.ErrNotRunning when there is none. The watch behind Exited ends
// with ctx.
func Attach(ctx context.Context, dir string) (*Broker, error) {
	proc, err := child.Attach(ctx, jvm.Record(dir))
	if err != nil {
		return nil, err
	}
	cluster, err := clusterID(filepath.Join(dir, "data"))
	if err != nil {
		return nil, fmt.Errorf("data directory of Kafka: %w", err)
	}
	return &Broker{proc: proc, cluster: cluster}, nil
}

// Addr is the address for clients.
func (b *Broker) Addr() string { return b.proc.Addr() }

// PID is the process id of the broker.
func (b *Broker) PID() int { return b.proc.PID() }

// Exited is closed when the broker has ended, wanted or not.
func (b *Broker) Exited() <-chan struct{} { return b.proc.Exited() }

// Log returns the last errors that the broker printed.
func (b *Broker) Log() string { return b.proc.Log() }

// Stop asks the broker to stop and waits for it. When that takes longer than 15 seconds or ctx ends, the broker is killed, which is an error: see Kill.
func (b *Broker) Stop(ctx context.Context) error { return b.proc.Stop(ctx) }

// Kill ends the broker with SIGKILL, as a crash would, and waits for that. Two things are worth knowing about the start that follows. It takes nine
// seconds more, because the controller holds the session of the broker that is gone. And a transaction whose end was acknowledged but not carried out
// yet, which takes some milliseconds, is never ended properly by Kafka 4.3.0, nor by 4.4.0, when there is only this broker (KAFKA-20734):
//
//   - the broker writes PrepareAbort (or PrepareCommit) to __transaction_state, answers the producer and is killed before it writes the marker;
//   - it starts, loads the transaction and cannot send the marker to itself, because it serves nobody before it is registered again;
//   - the controller ends the old session, so that the partition has no leader for a moment;
//   - the coordinator takes that for a deleted topic, skips the marker ("likely deleted already" in the log) and notes the transaction as complete.
//
// The next transaction of the same producer decides for the records of both. A test that kills the broker waits for CompleteAbort or CompleteCommit
// first, or counts with it.
func (b *Broker) Kill() { b.proc.Kill() }

// Properties are the settings of one broker that is all of its cluster and keeps its data in the folder. Its internal topics have few partitions: each is
// read at a restart.
func (c Config) Properties(data string) (map[string]string, error) {
	c = c.withDefaults()
	controller, err := c.controllerAddr()
	if err != nil {
		return nil, err
	}
	settings := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        "1",
		"controller.quorum.voters":       "1@" + controller,
		"controller.listener.names":      "CONTROLLER",
		"listeners":                      "PLAINTEXT://" + c.Addr + ",CONTROLLER://" + controller,
		"advertised.listeners":           "PLAINTEXT://" + c.Addr,
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",

		"log.dirs":                         data,
		"auto.create.topics.enable":        "false",   // a mistyped topic is an error, not a topic
		"group.initial.rebalance.delay.ms": "0",       // there is no crowd of consumers to wait for
		"log.cleaner.dedupe.buffer.size":   "8388608", // of the heap; the default is 128 MiB

		"offsets.topic.num.partitions":                     "4",
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.num.partitions":             "8",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"share.coordinator.state.topic.num.partitions":     "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
	}
	maps.Copy(settings, c.Settings)
	return settings, nil
}

func (c Config) controllerAddr() (string, error) {
	if c.ControllerPort != 0 {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.ControllerPort)), nil
	}
	_, port, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(n+1)), nil
}
