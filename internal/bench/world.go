package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/maven"
	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/freeport"
)

const (
	database     = "walpost"
	databaseUser = postgres.User

	partitions = 3 // of every topic

	kafkaHeapMiB          = 1024
	defaultConnectHeapMiB = 2048
)

// Stack is what the measured servers are started from.
type Stack struct {
	Program   string            // walpost itself, for the relay and the application; required
	Version   string            // of walpost, for the report; default unknown
	Postgres  postgres.Binaries // required
	Artifacts maven.Artifacts   // Kafka, Kafka Connect and Debezium; required
	Dir       string            // folder for all data, which must be empty or missing; it is left behind. Default: a temporary one, which is removed
	KafkaDir  string            // folder on a disk of Kafka's own, in which its data gets a temporary one, which is removed. Default: the data is in Dir

	ConnectHeapMiB  int               // limit of a worker's heap; default 2048
	ConnectSettings map[string]string // further worker settings; default none
	Progress        io.Writer         // lines for a person; default discarded
}

// javaOptions undo what the development stack sets for a fast start and a small process, and would cost Debezium and Kafka most of their speed.
func javaOptions() []string {
	return []string{"-XX:TieredStopAtLevel=4", "-XX:-UseSerialGC", "-XX:+UseG1GC"}
}

// postgresSettings keep checkpoints and cleaning out of the measurements; durability stays as PostgreSQL has it by default.
func postgresSettings() map[string]string {
	return map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off",
		"track_commit_timestamp": "on", // tells when a transaction of the application was committed
	}
}

// world is the running stack of one run.
type world struct {
	stack Stack
	folders

	server    *postgres.Server
	pool      *pgxpool.Pool
	broker    *kafka.Broker
	client    *kgo.Client
	admin     *kadm.Client
	workers   map[string]*connect.Worker
	transport *http.Transport
}

// open starts the stack with a worker for each name. What has been started is stopped again when a part fails.
func open(ctx context.Context, s Stack, workers []string) (*world, error) {
	w := &world{stack: s, workers: make(map[string]*connect.Worker), transport: &http.Transport{}}
	if w.stack.Progress == nil {
		w.stack.Progress = io.Discard
	}
	if err := w.start(ctx, workers); err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	return w, nil
}

func (w *world) start(ctx context.Context, workers []string) (err error) {
	if w.folders, err = makeFolders(w.stack.Dir, w.stack.KafkaDir); err != nil {
		return err
	}
	w.say("starting PostgreSQL %s, Kafka %s and %d workers of Kafka Connect in %s", w.stack.Postgres.Version, w.stack.Artifacts.Kafka, len(workers), w.dir)
	if err := w.startPostgres(ctx); err != nil {
		return err
	}
	if err := w.startKafka(ctx); err != nil {
		return err
	}
	var mu sync.Mutex // protects w.workers
	group, groupCtx := errgroup.WithContext(ctx)
	for _, name := range workers {
		group.Go(func() error {
			worker, err := w.startWorker(groupCtx, name)
			if err == nil {
				mu.Lock()
				w.workers[name] = worker
				mu.Unlock()
			}
			return err
		})
	}
	return group.Wait()
}

func (w *world) say(format string, args ...any) {
	_, _ = fmt.Fprintf(w.stack.Progress, format+"\n", args...) // talk is not worth failing for
}

// close ends everything at once, whether ctx has ended or not: the data is of no use to anybody.
func (w *world) close(ctx context.Context) error {
	if w.pool != nil {
		w.pool.Close()
	}
	if w.client != nil {
		w.client.Close()
	}
	w.transport.CloseIdleConnections()
	for _, worker := range w.workers {
		worker.Kill()
	}
	if w.broker != nil {
		w.broker.Kill()
	}
	var err error
	if w.server != nil {
		// The servers' children have to be gone before the folder is, so it is not killed; but it need not write a checkpoint either.
		hurry, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel()
		err = w.server.Stop(hurry)
	}
	return errors.Join(err, w.remove())
}

func (w *world) startPostgres(ctx context.Context) error {
	port, err := freeport.Port()
	if err != nil {
		return err
	}
	w.server, err = postgres.Start(ctx, postgres.Config{Binaries: w.stack.Postgres, Dir: w.path("postgres"), Port: port, Settings: postgresSettings()})
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, w.server.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its one statement has been answered
	if _, err := conn.Exec(ctx, `create database `+database); err != nil {
		return err
	}
	if w.pool, err = pgxpool.New(ctx, w.url()); err != nil {
		return err
	}
	migrate := exec.CommandContext(ctx, w.stack.Program, "migrate", "up", "--database-url", w.url())
	if out, err := migrate.CombinedOutput(); err != nil {
		return fmt.Errorf("walpost migrate up: %w: %s", errors.Join(ctx.Err(), err), strings.TrimSpace(string(out)))
	}
	_, err = w.pool.Exec(ctx, workload)
	return err
}

func (w *world) url() string { return w.server.URL(database) }

// database is how a worker reaches it.
func (w *world) database() debezium.Database {
	cfg := w.pool.Config().ConnConfig
	return debezium.Database{Host: cfg.Host, Port: int(cfg.Port), Name: cfg.Database, User: cfg.User}
}

func (w *world) startKafka(ctx context.Context) error {
	addr, err := freeport.Addr()
	if err != nil {
		return err
	}
	controller, err := freeport.Port()
	if err != nil {
		return err
	}
	w.broker, err = kafka.Start(ctx, kafka.Config{
		Artifacts: w.stack.Artifacts, Dir: w.kafka, Addr: addr, ControllerPort: controller, HeapMiB: kafkaHeapMiB,
		JavaOptions: append(javaOptions(), fmt.Sprintf("-Xms%dm", kafkaHeapMiB)), // as its own scripts do; a heap that grows as needed is collected every other second
	})
	if err != nil {
		return err
	}
	if w.client, err = kgo.NewClient(kgo.SeedBrokers(w.broker.Addr())); err != nil {
		return err
	}
	w.admin = kadm.NewClient(w.client)
	return nil
}

// createTopics returns when the broker serves every partition, which is some milliseconds after it has answered. A client that comes before is told that
// there is no such partition, and looks again after seconds.
func (w *world) createTopics(ctx context.Context, topics ...string) error {
	responses, err := w.admin.CreateTopics(ctx, partitions, 1, nil, topics...)
	if err == nil {
		err = responses.Error()
	}
	ctx, cancel := context.WithTimeoutCause(ctx, stallLimit, errors.New("the broker does not serve them"))
	defer cancel()
	for served := false; err == nil && !served; {
		var offsets kadm.ListedOffsets
		if offsets, err = w.admin.ListEndOffsets(ctx, topics...); err == nil {
			served = offsets.Error() == nil
			err = pause(ctx, 20*time.Millisecond)
		}
	}
	if err != nil {
		return fmt.Errorf("create topics %s: %w", strings.Join(topics, ", "), err)
	}
	return nil
}

func (w *world) deleteTopic(ctx context.Context, topic string) error {
	if _, err := w.admin.DeleteTopic(ctx, topic); err != nil {
		return fmt.Errorf("delete topic %s: %w", topic, err)
	}
	return nil
}

// dropSlot drops the slot when its reader has let go of it, which a connector does some time after it was deleted.
func (w *world) dropSlot(ctx context.Context, slot string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stallLimit, errors.New("it is still in use"))
	defer cancel()
	for {
		var pid *int
		err := w.pool.QueryRow(ctx, `select active_pid from pg_replication_slots where slot_name = $1`, slot).Scan(&pid)
		if err == nil && pid == nil {
			_, err = w.pool.Exec(ctx, `select pg_drop_replication_slot($1)`, slot)
			return err
		}
		if err == nil {
			err = pause(ctx, 100*time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("drop slot %s: %w", slot, errors.Join(err, context.Cause(ctx)))
		}
	}
}

// watchServers has the meter watch the servers, and the walsender of the slot apart from the rest of PostgreSQL.
func (w *world) watchServers(m *meter, slot string) {
	postmaster := w.server.PID()
	walsender := func(ctx context.Context) []int {
		var pid *int
		if err := w.pool.QueryRow(ctx, `select active_pid from pg_replication_slots where slot_name = $1`, slot).Scan(&pid); err != nil || pid == nil {
			return nil
		}
		return []int{*pid}
	}
	m.watch(ProcessWalsender, walsender)
	m.watch(ProcessPostgres, func(ctx context.Context) []int {
		pids := []int{postmaster}
		sender := walsender(ctx)
		for _, pid := range children(postmaster) {
			if len(sender) == 0 || pid != sender[0] {
				pids = append(pids, pid)
			}
		}
		return pids
	})
	m.watch(ProcessKafka, func(context.Context) []int { return []int{w.broker.PID()} })
}

// about describes the run.
func (w *world) about(ctx context.Context, command string, began time.Time, busyBefore float64) About {
	settings := map[string]string{
		"PostgreSQL":    sortedSettings(postgresSettings()),
		"JVMs":          strings.Join(javaOptions(), " "),
		"Kafka":         fmt.Sprintf("one broker, %d partitions a topic, heap %d MiB from the start", partitions, kafkaHeapMiB),
		"Kafka Connect": fmt.Sprintf("a worker for each Debezium, heap %d MiB", cmp.Or(w.stack.ConnectHeapMiB, defaultConnectHeapMiB)),
		"consumer":      fmt.Sprintf("one, in the measuring process, read_committed, fetches up to %d MiB", fetchBytes>>20),
	}
	return About{
		Began: began.UTC().Truncate(time.Second), Minutes: round(time.Since(began).Minutes(), 1), Command: command,
		Machine: machine(ctx, w.stack), Disks: w.disks(ctx), Busy: round(busyBefore, 3), Settings: settings,
	}
}

func sortedSettings(settings map[string]string) string {
	var list []string
	for _, name := range sortedKeys(settings) {
		list = append(list, name+"="+settings[name])
	}
	return strings.Join(list, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
