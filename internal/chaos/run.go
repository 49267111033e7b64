package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
)

// RunConfig says what one run does.
type RunConfig struct {
	Seed     uint64        // of faults and workload
	Duration time.Duration // of the faults; default 20 s
	Faults   []Kind        // default all
	Drain    time.Duration // how long the relay may take to get through when everything is healed; default 2 min
	Program  string        // the relay's, for one that is broken on purpose, whose traces are not worth keeping; default that of the stack
}

func (c RunConfig) withDefaults() RunConfig {
	c.Duration = cmp.Or(c.Duration, 20*time.Second)
	c.Drain = cmp.Or(c.Drain, 2*time.Minute)
	if c.Faults == nil {
		c.Faults = Kinds()
	}
	return c
}

// Result is what a run found, and how much happened in it.
type Result struct {
	Seed    uint64         `json:"seed"`
	Seconds float64        `json:"seconds"` // of faults
	Drained float64        `json:"drained"` // seconds from the end of the faults until the relay was through
	Faults  map[Kind]int   `json:"faults"`
	Counts  Counts         `json:"counts"`
	Rewinds int            `json:"rewinds"` // times that the slot went back with a server
	Fenced  int            `json:"fenced"`  // times that a relay was told that it is shut out
	Relays  int            `json:"relays"`  // that were started
	Halts   map[string]int `json:"halts,omitempty"`
	Verdict Verdict        `json:"verdict"`
}

// Counts are the sizes of a history.
type Counts struct {
	Events       int `json:"events"`       // committed
	Records      int `json:"records"`      // visible
	Aborted      int `json:"aborted"`      // records of transactions that were aborted
	Transactions int `json:"transactions"` // of Kafka, committed, with a watermark
}

// run is one run at work.
type run struct {
	world  *World
	cfg    RunConfig
	slot   string
	topics []string
	pool   *pgxpool.Pool
	dir    string
	began  time.Time

	workload *workload
	relays   *relays
	consumer *consumer
	result   Result

	mu sync.Mutex // guards nemesis.limits
}

// Run does one run, with a database, a slot and topics of its own. It returns an error when it could not be done or judged; what it found is in the
// Result. One run at a time.
func (w *World) Run(ctx context.Context, cfg RunConfig) (Result, error) {
	cfg = cfg.withDefaults()
	w.runs++
	name := fmt.Sprintf("chaos%d", w.runs)
	r := &run{world: w, cfg: cfg, slot: name, topics: []string{name + ".a", name + ".b"}, dir: w.path(name), result: Result{Seed: cfg.Seed}}
	defer r.close()
	if err := r.open(ctx); err != nil {
		w.flawed = true
		return r.result, fmt.Errorf("run %d: %w", w.runs, err)
	}
	h, n, err := r.play(ctx)
	if err == nil {
		err = r.judge(ctx, h, n)
	}
	if err == nil {
		err = r.dropSlot(ctx)
	}
	if (err != nil || !r.result.Verdict.Good()) && cfg.Program == "" {
		w.flawed = true
	}
	if err != nil {
		return r.result, fmt.Errorf("run %d: %w", w.runs, err)
	}
	return r.result, nil
}

func (r *run) open(ctx context.Context) (err error) {
	if err := os.Mkdir(r.dir, 0o755); err != nil {
		return err
	}
	if err := r.world.database(ctx, r.slot); err != nil {
		return err
	}
	if r.pool, err = poolFor(ctx, r.world.server, r.slot); err != nil {
		return err
	}
	if r.workload, err = openWorkload(ctx, r.pool, r.topics, r.cfg.Seed); err != nil {
		return err
	}
	if err := r.world.createTopics(ctx, partitions, nil, r.topics...); err != nil {
		return err
	}
	if r.consumer, err = r.world.consume(ctx, r.topics); err != nil {
		return err
	}
	r.relays = &relays{program: cmp.Or(r.cfg.Program, r.world.stack.Program), dir: r.dir, exited: make(chan struct{}, 1), args: []string{
		"relay", "--delivery", "exactly-once", "--position-headers", "--slot", r.slot, "--kafka-brokers", r.world.toBroker.addr(),
		"--database-url", fmt.Sprintf("postgres://walpost@%s/%s?sslmode=disable", r.world.toServer.addr(), r.slot),
		"--ops-addr", "127.0.0.1:0", "--log-format", "json", "--log-level", "info",
	}}
	return nil
}

func (r *run) close() {
	if r.relays != nil {
		r.relays.close()
	}
	if r.consumer != nil {
		r.consumer.close()
	}
	if r.pool != nil {
		r.pool.Close()
	}
}

// play is the run itself, up to the end of the drain.
func (r *run) play(ctx context.Context) (h History, n *nemesis, err error) {
	n = &nemesis{run: r}
	r.relays.excuse = n.excuse
	if err := r.relays.start(ctx); err != nil {
		return h, n, err
	}
	writing, stop := context.WithCancel(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer stop()
	begin := time.Now()
	writer.Go(func() { r.workload.run(writing) })
	if err := r.warm(ctx); err != nil {
		return h, n, err
	}
	r.began = time.Now()
	err = n.rage(ctx)
	r.result.Seconds = time.Since(r.began).Seconds()
	err = errors.Join(err, n.heal(ctx))
	stop()
	writer.Wait()
	if err != nil {
		return h, n, err
	}
	healed := time.Now()
	if committed, _, last := r.workload.state(); committed == 0 {
		return h, n, fmt.Errorf("the workload committed nothing in %v: %w", time.Since(begin).Round(time.Second), last)
	}
	h.Undrained, err = r.drain(ctx, n)
	r.result.Drained = time.Since(healed).Seconds()
	return h, n, err
}

// warm waits until the first records are through: faults are to meet a relay at work.
func (r *run) warm(ctx context.Context) error {
	warming, cancel := context.WithTimeout(ctx, serveLimit)
	defer cancel()
	for {
		seen, _, moved := r.consumer.state()
		if seen > 0 {
			return nil
		}
		select {
		case <-moved:
			continue
		case <-r.relays.exited:
		case <-warming.Done():
		}
		_, _, last := r.workload.state()
		return errors.Join(fmt.Errorf("nothing was published before any fault within %v; relays that ended: %+v; last error of the workload: %w",
			serveLimit, r.relays.ended(), last), ctx.Err())
	}
}

// drain waits until the relay has confirmed everything that was committed, and stops it. It returns why that has not come to pass.
func (r *run) drain(ctx context.Context, n *nemesis) (undrained string, err error) {
	if err := r.workload.endPrepared(ctx, fmt.Sprintf("chaos-%d-", r.cfg.Seed)); err != nil {
		return "", fmt.Errorf("end prepared transactions: %w", err)
	}
	var text string
	if err := r.pool.QueryRow(ctx, `select pg_current_wal_insert_lsn()::text`).Scan(&text); err != nil {
		return "", err
	}
	end, err := record.ParseLSN(text)
	if err != nil {
		return "", err
	}
	waiting := await(ctx, r.cfg.Drain, "the slot is at "+text, func(ctx context.Context) error {
		if r.relays.flawed() {
			return nil // nothing will come any more
		}
		if err := n.replace(ctx); err != nil {
			return err
		}
		at, err := r.confirmed(ctx)
		if err == nil && at < end {
			err = fmt.Errorf("it is at %s", at)
		}
		return err
	})
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if waiting != nil {
		return waiting.Error(), nil
	}
	if err := r.relays.stop(ctx, slices.Clone(r.relays.alive())...); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// confirmed is where the slot stands.
func (r *run) confirmed(ctx context.Context) (at record.LSN, err error) {
	var text string
	err = r.pool.QueryRow(ctx, `select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1`, r.slot).Scan(&text)
	if err != nil {
		return 0, err
	}
	return record.ParseLSN(text)
}

// dropSlot lets the server forget the log that the run has written, and have the slot for another one.
func (r *run) dropSlot(ctx context.Context) error {
	return await(ctx, serveLimit, "slot "+r.slot+" is dropped", func(ctx context.Context) error {
		_, err := r.pool.Exec(ctx, `select pg_drop_replication_slot($1)`, r.slot)
		return err
	})
}

// judge collects the history and has it checked.
func (r *run) judge(ctx context.Context, h History, n *nemesis) (err error) {
	r.relays.close()
	if h.Committed, err = committedEvents(ctx, r.pool); err != nil {
		return err
	}
	if err := r.read(ctx, &h); err != nil {
		return err
	}
	h.Exits = r.relays.ended()
	r.count(h, n)
	r.result.Verdict = Check(h)
	return h.save(filepath.Join(r.dir, "history.jsonl"), n.did)
}

// read reads the topics in every way. What a relay left open that was given up, nobody ends but the brokers.
func (r *run) read(ctx context.Context, h *History) error {
	if err := r.world.awaitSettled(ctx, r.topics...); err != nil {
		return err
	}
	records, err := r.world.readAll(ctx, kgo.ReadCommitted(), r.topics...)
	if err != nil {
		return err
	}
	everything, err := r.world.readAll(ctx, kgo.ReadUncommitted(), r.topics...)
	if err != nil {
		return err
	}
	visible, visibleErr := events(records)
	all, allErr := events(everything)
	if err := errors.Join(visibleErr, allErr); err != nil {
		return err
	}
	h.Records, h.All = visible, all
	seeing, cancel := context.WithTimeout(ctx, serveLimit)
	defer cancel()
	r.consumer.awaitAll(seeing, len(visible))
	h.Seen = r.consumer.close()
	r.consumer = nil
	var system string
	if err := r.pool.QueryRow(ctx, `select system_identifier::text from pg_control_system()`).Scan(&system); err != nil {
		return err
	}
	h.Marks, err = r.world.readMarks(ctx, system, r.slot)
	return err
}

// count fills the result.
func (r *run) count(h History, n *nemesis) {
	r.result.Counts = Counts{Events: len(h.Committed), Records: len(h.Records), Aborted: len(h.All) - len(h.Records), Transactions: len(h.Marks)}
	r.result.Fenced, r.result.Relays = int(r.relays.fenced.Load()), r.relays.started
	r.result.Faults, r.result.Halts = make(map[Kind]int), make(map[string]int)
	for _, f := range n.did {
		r.result.Faults[f.Kind]++
	}
	for _, e := range h.Exits {
		r.result.Halts[cmp.Or(e.Cause, "none")]++
	}
}
