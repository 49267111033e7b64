// Package connect runs one real Kafka Connect worker, distributed mode, with the Debezium PostgreSQL connector as a child process.
//
// It starts and stops the worker; connectors are made by whoever asks its REST interface, which is on loopback and asks nobody who he is. The invariant:
// at most one worker runs on a folder, the worker that Start returned is the one on its address, and none outlives the process that started it unless
// that was asked for.
package connect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/walpost/walpost/internal/devstack/child"
	"github.com/walpost/walpost/internal/devstack/jvm"
	"github.com/walpost/walpost/internal/devstack/maven"
)

// startTimeout bounds a start; one takes 5 to 10 s.
const startTimeout = 90 * time.Second

// Config says what Start starts.
type Config struct {
	Artifacts   maven.Artifacts
	Brokers     []string          // addresses of Kafka, which must be running; required
	Dir         string            // the worker's folder: settings, secrets, log; made when missing; required. What it knows lies in Kafka
	Addr        string            // loopback address and port of its REST interface; default 127.0.0.1:8083
	HeapMiB     int               // limit of the heap; the process takes up to some 200 MiB more; default 512
	Settings    map[string]string // further worker settings, which win over ours, e.g. "exactly.once.source.support": "enabled"; default none
	JavaOptions []string          // further options of the JVM, which win over ours; default none
	Log         io.Writer         // the worker's errors; default discarded. All of its log is in Dir/connect.log
	Detach      bool              // the worker outlives this process and is found again with Attach; default false
}

func (c Config) withDefaults() Config {
	c.Addr = cmp.Or(c.Addr, "127.0.0.1:8083")
	c.HeapMiB = cmp.Or(c.HeapMiB, 512)
	return c
}

// Worker is a running worker. Its methods are safe for concurrent use.
type Worker struct {
	proc *child.Process
	dir  string
}

// Start stops a worker that an earlier process left behind in the folder, starts the worker and returns when it runs connectors and knows Debezium's.
// It returns a *child.RunningError when a detached worker runs there. A worker that cannot start is an error with its own last words.
func Start(ctx context.Context, cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	dir, err := jvm.Place(cfg.Dir, cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("start Connect: %w", err)
	}
	if err := reach(ctx, cfg.Brokers); err != nil {
		return nil, err
	}
	w := &Worker{dir: dir}
	if err := os.MkdirAll(w.Secrets(), 0o700); err != nil {
		return nil, fmt.Errorf("start Connect: %w", err)
	}
	w.proc, err = jvm.Start(ctx, jvm.Server{
		Name: "Connect", Main: "org.apache.kafka.connect.cli.ConnectDistributed", Properties: cfg.Properties(w.Secrets()), Artifacts: cfg.Artifacts,
		Dir: dir, Addr: cfg.Addr, HeapMiB: cfg.HeapMiB, Options: cfg.JavaOptions, Log: cfg.Log, Detach: cfg.Detach,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := w.proc.Await(ctx, 50*time.Millisecond, w.Check); err != nil {
		w.Kill()
		return nil, err
	}
	return w, nil
}

// Attach finds the worker that runs on the folder, whoever started it. It returns child.ErrNotRunning when there is none. The watch behind Exited ends
// with ctx.
func Attach(ctx context.Context, dir string) (*Worker, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	proc, err := child.Attach(ctx, jvm.Record(dir))
	if err != nil {
		return nil, err
	}
	return &Worker{proc: proc, dir: dir}, nil
}

// URL is that of the REST interface, without a slash at its end.
func (w *Worker) URL() string { return "http://" + w.proc.Addr() }

// Secrets is the one folder from which a connector's configuration may take values: "${file:SECRETS/db.properties:password}" is the value of password in
// that file. The worker's REST interface shows the reference, never the value.
func (w *Worker) Secrets() string { return filepath.Join(w.dir, "secrets") }

// PID is the process id of the worker.
func (w *Worker) PID() int { return w.proc.PID() }

// Exited is closed when the worker has ended, wanted or not.
func (w *Worker) Exited() <-chan struct{} { return w.proc.Exited() }

// Log returns the last errors that the worker printed.
func (w *Worker) Log() string { return w.proc.Log() }

// Stop asks the worker to stop its connectors and itself, and waits for it. Stop it before its Kafka, without which it finds no end. When that takes longer
// than 15 seconds or ctx ends, the worker is killed, which is an error.
func (w *Worker) Stop(ctx context.Context) error { return w.proc.Stop(ctx) }

// Kill ends the worker with SIGKILL, as a crash would, and waits for that. Kafka holds its membership for six seconds more: a worker started meanwhile
// takes over the connectors after that.
func (w *Worker) Kill() { w.proc.Kill() }

// Properties are the settings of a worker that is all of its group; secrets is the folder that Worker.Secrets names.
func (c Config) Properties(secrets string) map[string]string {
	c = c.withDefaults()
	settings := map[string]string{
		"bootstrap.servers":        strings.Join(c.Brokers, ","),
		"group.id":                 "walpost-connect",
		"listeners":                "http://" + c.Addr,
		"plugin.path":              c.Artifacts.Plugins,
		"plugin.discovery":         "service_load", // Debezium's plugins announce themselves: half the start time of a scan
		"key.converter":            "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":          "org.apache.kafka.connect.json.JsonConverter",
		"offset.flush.interval.ms": "1000", // the default is a minute, by which a slot would lag behind

		"value.converter.schemas.enable": "false",

		"config.storage.topic":              "walpost-connect-configs",
		"config.storage.replication.factor": "1",
		"offset.storage.topic":              "walpost-connect-offsets",
		"offset.storage.replication.factor": "1",
		"offset.storage.partitions":         "1",
		"status.storage.topic":              "walpost-connect-status",
		"status.storage.replication.factor": "1",
		"status.storage.partitions":         "1",

		"scheduled.rebalance.max.delay.ms": "0", // there is no other worker to wait for
		"session.timeout.ms":               "6000",
		"heartbeat.interval.ms":            "2000",

		"config.providers":                          "file",
		"config.providers.file.class":               "org.apache.kafka.common.config.provider.FileConfigProvider",
		"config.providers.file.param.allowed.paths": secrets,
	}
	maps.Copy(settings, c.Settings)
	return settings
}

// reach fails when no broker can be reached: the worker itself would try for a minute.
func reach(ctx context.Context, brokers []string) error {
	err := errors.New("no broker is named")
	for _, broker := range brokers {
		var conn net.Conn
		if conn, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", broker); err == nil {
			return conn.Close()
		}
	}
	return fmt.Errorf("start Connect: no Kafka answers: %w", err)
}
