package chaos

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/internal/devstack/postgres"
)

const (
	writers    = 8
	aggregates = 40
	partitions = 3 // of each topic

	// largeEvery is how many transactions of a writer there are to one that is larger than a batch of the relay, and so than a Kafka transaction.
	largeEvery  = 500
	largeEvents = 6000

	// writerPause is the longest between two transactions of a writer: the machine has other things to do.
	writerPause = 50 * time.Millisecond
)

// The tables of the workload. chaos_events is the oracle.
const workloadTables = `
create table chaos_aggregates (id text primary key, version bigint not null default 0);
create table chaos_events (id uuid primary key, topic text not null, aggregate text not null, version bigint not null, sum numeric not null);
insert into chaos_aggregates (id) select 'aggregate-' || n from generate_series(0, %d) n;
`

// workload writes until it is stopped, whatever happens to the database. What became of a commit whose answer was lost nobody asks: the oracle knows.
type workload struct {
	pool   *pgxpool.Pool
	topics []string // an aggregate has one of them
	seed   uint64

	mu        sync.Mutex // guards what follows
	committed int        // transactions whose commit was answered
	unknown   int        // transactions whose commit was not
	last      error
}

// run writes until ctx ends.
func (w *workload) run(ctx context.Context) {
	var all sync.WaitGroup
	for n := range writers {
		all.Go(func() { w.write(ctx, n) })
	}
	all.Wait()
}

func (w *workload) write(ctx context.Context, n int) {
	random := rand.New(rand.NewPCG(w.seed, uint64(n)))
	for i := 0; ctx.Err() == nil; i++ {
		t := plan(random, w.topics)
		t.gid = fmt.Sprintf("chaos-%d-%d-%d", w.seed, n, i)
		if n < 2 && i%largeEvery == largeEvery/4+n*largeEvery/2 {
			t.makeLarge(random)
		}
		err := w.commit(ctx, t)
		w.note(err)
		rest := time.Duration(random.Int64N(int64(writerPause)))
		if err != nil {
			rest += writerPause
		}
		_ = pause(ctx, rest) // the loop looks at ctx
	}
}

func (w *workload) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.committed++
	case errors.Is(err, errUnknown):
		w.unknown++
		w.last = err
	default:
		w.last = err
	}
}

// state is how many transactions were committed, how many perhaps, and the last error.
func (w *workload) state() (committed, unknown int, last error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.committed, w.unknown, w.last
}

// errUnknown is a transaction whose outcome was not answered.
var errUnknown = errors.New("outcome unknown")

// commit carries out a transaction. One that was prepared and whose end was not answered is ended as soon as the database is back, since it holds a lock.
func (w *workload) commit(ctx context.Context, t transaction) error {
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	err = t.run(ctx, conn.Conn())
	conn.Release()
	for t.twoPhase && err != nil && ctx.Err() == nil {
		if ended := w.endPrepared(ctx, t.gid); ended == nil {
			break
		}
		_ = pause(ctx, writerPause) // the loop looks at ctx
	}
	return err
}

// endPrepared commits the prepared transactions whose ids begin so.
func (w *workload) endPrepared(ctx context.Context, prefix string) error {
	rows, err := w.pool.Query(ctx, `select gid from pg_prepared_xacts where database = current_database() and starts_with(gid, $1)`, prefix)
	if err != nil {
		return err
	}
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, gid := range gids {
		if err == nil {
			_, err = w.pool.Exec(ctx, `commit prepared `+quote(gid))
		}
	}
	return err
}

// open makes the tables in the database, which has those of walpost.
func openWorkload(ctx context.Context, pool *pgxpool.Pool, topics []string, seed uint64) (*workload, error) {
	if _, err := pool.Exec(ctx, fmt.Sprintf(workloadTables, aggregates-1)); err != nil {
		return nil, fmt.Errorf("tables of the workload: %w", err)
	}
	return &workload{pool: pool, topics: topics, seed: seed}, nil
}

// committedEvents reads the oracle.
func committedEvents(ctx context.Context, pool *pgxpool.Pool) ([]Event, error) {
	rows, err := pool.Query(ctx, `select id::text, topic, aggregate, version, sum::text from chaos_events order by aggregate, version`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Event, err error) {
		var text string
		if err := row.Scan(&e.ID, &e.Topic, &e.Key, &e.Version, &text); err != nil {
			return e, err
		}
		_, err = fmt.Sscan(text, &e.Sum)
		return e, err
	})
}

// sum tells payloads apart. That of none, which is a tombstone, is zero.
func sum(payload []byte) uint64 {
	if payload == nil {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write(payload) // never fails
	return max(h.Sum64(), 1)
}

// serverSettings let the workload prepare transactions. Without fsync a killed server loses nothing that it has given to the system.
func serverSettings() map[string]string {
	return map[string]string{"max_prepared_transactions": "64", "fsync": "off", "max_connections": "60"}
}

// poolFor is a pool on the database, not through the proxy.
func poolFor(ctx context.Context, server *postgres.Server, database string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(server.URL(database))
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = writers + 4
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	cfg.ConnConfig.RuntimeParams["application_name"] = "walpost-chaos"
	return pgxpool.NewWithConfig(ctx, cfg)
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
