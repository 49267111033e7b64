package inbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/outbox"
)

const (
	lockTimeout     = 5 * time.Second // for a lock, such as another owner's uncommitted inbox row of the same message
	endTimeout      = 5 * time.Second // for a rollback, and what an idle session may stay beyond its handler's time
	commitTimeout   = 10 * time.Second
	conflictReruns  = 3
	conflictBackoff = 50 * time.Millisecond
)

// store is the consumer's side of PostgreSQL.
type store struct {
	pool     *pgxpool.Pool
	consumer int16 // the consumer's row in inbox_consumer
	begin    pgx.TxOptions
	timeout  time.Duration
	observe  observers

	mu      sync.Mutex // protects history, also while it is compared with the server's
	history history
}

// tried is what came of running a message once.
type tried struct {
	fresh bool  // the inbox row was not there before
	ran   bool  // the handler was called
	out   bool  // err speaks of the consumer's own database, so that other messages would meet it too
	class class // of err
	err   error
}

func newStore(pool *pgxpool.Pool, consumer int16, handlerTimeout time.Duration, observe observers) *store {
	// One simple-protocol message, one round trip. READ COMMITTED whatever the server's default: under a stricter level a concurrent
	// duplicate fails with 40001 where it should wait and then count as a duplicate. The server ends a session that a handler left idle, so
	// that a handler that ignores its context cannot hold the inbox row, and vacuum, for ever.
	begin := fmt.Sprintf("begin isolation level read committed read write; set local lock_timeout = %d; "+
		"set local idle_in_transaction_session_timeout = %d", lockTimeout.Milliseconds(), (handlerTimeout + endTimeout).Milliseconds())
	return &store{pool: pool, consumer: consumer, begin: pgx.TxOptions{BeginQuery: begin}, timeout: handlerTimeout, observe: observe}
}

// apply runs a handler in a transaction that holds the message's inbox row, and again if the database chose it as a victim.
func (s *store) apply(ctx context.Context, m *Message, h TxHandler) tried {
	for n := 0; ; n++ {
		t := s.once(ctx, m, h)
		if t.err == nil || t.class != classConflict || n == conflictReruns {
			return t
		}
		s.observe.ended(m.Topic, m.Type, ConflictRetry)
		if pause(ctx, conflictBackoff/10+time.Duration(jitter()*float64(conflictBackoff*9/10))) != nil {
			return t
		}
	}
}

func (s *store) once(ctx context.Context, m *Message, h TxHandler) (t tried) {
	ctx, end := s.observe.startSpan(ctx, m)
	defer func() { end(t.err) }()
	tx, fresh, err := s.open(ctx, m.id)
	if err != nil {
		return tried{err: err, class: openingClass(err), out: true}
	}
	defer s.rollback(ctx, tx)
	if !fresh {
		return tried{}
	}
	handling, cancel := context.WithTimeoutCause(ctx, s.timeout, errHandlerTimeout)
	defer cancel()
	if err := s.handle(handling, tx, m, h); err != nil {
		return s.failed(handling, tx, err)
	}
	if tx.Conn().PgConn().TxStatus() == 'I' { // a commit would succeed, of nothing: the effect and the inbox row are gone or have been committed
		return s.failed(handling, tx, errEnded)
	}
	committing, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if err := tx.Commit(committing); err != nil {
		return s.failed(committing, tx, fmt.Errorf("commit the handler's transaction: %w", err))
	}
	return tried{fresh: true, ran: true}
}

var (
	errHandlerTimeout = errors.New("the handler ran out of time")
	errEnded          = errors.New("the handler ended the transaction, with a statement of its own")
)

// open begins a transaction and writes the inbox row. Another transaction that holds the same row, uncommitted, is waited for: if it
// commits, ours is the duplicate, if it rolls back, ours goes on. What counts is the number of rows, never an error or its text.
func (s *store) open(ctx context.Context, id outbox.EventID) (_ pgx.Tx, fresh bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, max(s.timeout, 2*lockTimeout))
	defer cancel()
	tx, err := s.pool.BeginTx(ctx, s.begin)
	if err != nil {
		return nil, false, fmt.Errorf("begin: %w", err)
	}
	tag, err := tx.Exec(ctx, "insert into inbox (consumer, msg_id) values ($1, $2) on conflict do nothing", s.consumer, [16]byte(id))
	if err != nil {
		s.rollback(ctx, tx)
		return nil, false, fmt.Errorf("insert the inbox row: %w", err)
	}
	return tx, tag.RowsAffected() == 1, nil
}

// openingClass is the class of an error that came before the handler ran. No message is to blame for it.
func openingClass(err error) class {
	if classify(err) == classConflict {
		return classConflict
	}
	return classSystemic
}

// handle calls the handler; a panic becomes its error.
func (s *store) handle(ctx context.Context, tx pgx.Tx, m *Message, h TxHandler) (err error) {
	start := time.Now()
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
		s.observe.handled(m, time.Since(start), err)
	}()
	return h(ctx, lentTx{tx}, m)
}

// failed judges an error of the handler or of the commit; ctx is the one that it had.
func (s *store) failed(ctx context.Context, tx pgx.Tx, err error) tried {
	t := tried{ran: true, err: err, class: classify(err)}
	conn := tx.Conn()
	_, marked := errors.AsType[*classified](err)
	switch {
	case marked:
		return t
	case errors.Is(context.Cause(ctx), errHandlerTimeout): // which also closed the connection, if a statement was running
		t.class = classTransient
		return t
	case conn.IsClosed() && ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)):
		// The handler's own deadline ended its statement, which closes the connection. Whether the database is out the next attempt's begin
		// will show; if this counted as an outage, a statement that is always too slow would stop all partitions for ever.
		t.class = classTransient
		return t
	case conn.IsClosed(): // the server went away without a word, as a killed one does
		t.class = classSystemic
	}
	t.out = t.class == classSystemic && s.ours(conn, err) && !isSkew(err)
	return t
}

// ours reports that an error came from the consumer's own database. A session that is still good, in a transaction that is still good, did
// not give it; nor did one that is there give an error of connecting: the handler got it from somewhere else.
func (s *store) ours(conn *pgx.Conn, err error) bool {
	if conn.IsClosed() {
		return true
	}
	_, answered := errors.AsType[*pgconn.PgError](err)
	return answered && conn.PgConn().TxStatus() != 'T'
}

// rollback ends a transaction that was not committed; after a commit it does nothing. Its error does not matter: the pool closes the
// connection then.
func (s *store) rollback(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_ = tx.Rollback(ctx)
}

// account writes the inbox row of a message that was buried, in a transaction of its own.
func (s *store) account(ctx context.Context, id outbox.EventID) error {
	tx, _, err := s.open(ctx, id)
	if err != nil {
		return err
	}
	defer s.rollback(ctx, tx)
	return tx.Commit(ctx)
}

// lentTx is the transaction as a handler has it: it cannot end it.
type lentTx struct{ pgx.Tx }

var errLent = errors.New("the consumer ends this transaction: return nil to commit, an error to roll back")

func (lentTx) Commit(context.Context) error   { return errLent }
func (lentTx) Rollback(context.Context) error { return errLent }
