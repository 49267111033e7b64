package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/freeport"
	"github.com/walpost/walpost/record"
)

// applyLimit bounds the start of a connector; one takes a second or two.
const applyLimit = time.Minute

// debeziumRelay is Debezium's connector with the outbox router on a worker of its own, so that what one variant makes the worker's heap grow to is not
// counted for another.
type debeziumRelay struct {
	name, label, what string
	tuning            debezium.Tuning
}

func debeziumVariants() map[string]debeziumRelay {
	variants := make(map[string]debeziumRelay)
	for _, v := range []debeziumRelay{
		{
			Debezium, "Debezium, default", "Debezium's own defaults: poll 500 ms, batches of 2,048, queue of 8,192",
			debezium.Tuning{Poll: 500 * time.Millisecond, Batch: 2048, Queue: 8192},
		},
		{
			DebeziumTuned, "Debezium, tuned", "poll 10 ms, batches of 16,384, queue of 65,536, lz4",
			debezium.Tuning{Poll: 10 * time.Millisecond, Batch: 16384, Queue: 65536, Compression: "lz4"},
		},
		{DebeziumApplied, "Debezium, as applied", "what `walpost connector apply` sets: poll 50 ms, batches of 2,048", debezium.Tuning{}},
	} {
		variants[v.name] = v
	}
	return variants
}

func (c debeziumRelay) about() Contestant {
	settings, err := c.config(debezium.Database{Host: "127.0.0.1", Name: database, User: databaseUser}, lane{name: "LANE", slot: "slot", topic: "LANE.${event_type}"})
	if err != nil {
		settings = nil // the start will say it
	}
	return Contestant{Name: c.name, Label: c.label, What: c.what, Settings: settings}
}

func (c debeziumRelay) worker() string { return c.name }

// config is what `walpost connector` makes of the tuning, save for one setting that is there for safety and costs speed: to bound the queue in bytes
// Debezium walks through every event to measure it. It is off by default, and so it is here.
func (c debeziumRelay) config(db debezium.Database, l lane) (map[string]string, error) {
	config, err := debezium.Config{
		Name: l.name, Database: db, Slot: l.slot, Publication: publication, TopicPrefix: l.name,
		Mapping: record.Mapping{Topic: l.topic}, Tuning: c.tuning,
	}.Connector()
	if err != nil {
		return nil, err
	}
	if c.name != DebeziumApplied {
		config["max.queue.size.in.bytes"] = "0"
	}
	return config, nil
}

func (c debeziumRelay) start(ctx context.Context, w *world, l lane) (carrier, error) {
	worker := w.workers[c.name]
	config, err := c.config(w.database(), l)
	if err != nil {
		return nil, err
	}
	// Seldom asked, because the worker's answers are paid by the machine that is measured.
	client, err := debezium.NewClient(worker.URL(), debezium.ClientConfig{
		HTTP: &http.Client{Transport: w.transport}, Poll: 250 * time.Millisecond, Settle: 250 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	running := connector{client, worker, l.name}
	if _, err := client.Apply(ctx, config, applyLimit); err != nil {
		return nil, errors.Join(err, running.stop(context.WithoutCancel(ctx)))
	}
	return running, nil
}

// connector is Debezium at work.
type connector struct {
	client *debezium.Client
	worker *connect.Worker
	name   string
}

func (c connector) pid() int { return c.worker.PID() }

func (c connector) trouble(ctx context.Context) error {
	status, err := c.client.Status(ctx, c.name)
	if err != nil {
		return err
	}
	if status.Running() {
		return nil
	}
	return errors.New(strings.ReplaceAll(status.String(), "\n", "; "))
}

func (c connector) stop(ctx context.Context) error {
	if _, err := c.client.Delete(ctx, c.name); err != nil && !errors.Is(err, debezium.ErrNotFound) {
		return err
	}
	return nil
}

// startWorker starts a Kafka Connect worker that shares nothing with others on the same Kafka.
func (w *world) startWorker(ctx context.Context, name string) (*connect.Worker, error) {
	addr, err := freeport.Addr()
	if err != nil {
		return nil, err
	}
	group := "bench-" + name
	settings := map[string]string{
		"group.id":             group,
		"config.storage.topic": group + "-configs", "offset.storage.topic": group + "-offsets", "status.storage.topic": group + "-status",
	}
	maps.Copy(settings, w.stack.ConnectSettings)
	worker, err := connect.Start(ctx, connect.Config{
		Artifacts: w.stack.Artifacts, Brokers: []string{w.broker.Addr()}, Dir: w.path("connect-" + name), Addr: addr,
		HeapMiB: cmp.Or(w.stack.ConnectHeapMiB, defaultConnectHeapMiB), JavaOptions: javaOptions(), Settings: settings,
	})
	if err != nil {
		return nil, fmt.Errorf("worker for %s: %w", name, err)
	}
	return worker, nil
}
