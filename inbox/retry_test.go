package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/inbox"
)

// calls counts the calls of a handler for each key=value.
type calls struct {
	mu sync.Mutex // protects n
	n  map[string]int
}

func (c *calls) add(m *inbox.Message) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	what := m.Key + "=" + string(m.Payload)
	c.n[what]++
	return c.n[what]
}

func (c *calls) of(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[what]
}

// D1: a retried event is overtaken by its key.
func TestAFailingKeyWaitsAndOtherKeysGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "A", value: "1"}, event{key: "A", value: "2"}, event{key: "B", value: "1"})
	mend := make(chan struct{})
	m := w.start(func(c *inbox.Config) {
		c.Concurrency = 1 // the failing key must not hold the only worker
		c.Retry.Attempts = 1_000_000
		c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			if m.Key == "A" && string(m.Payload) == "1" {
				select {
				case <-mend:
				default:
					return errors.New("not yet")
				}
			}
			return effect(ctx, tx, m)
		}
	})
	m.awaitResults(inbox.Done, 1)
	m.awaitResults(inbox.Retried, 3)
	if diff := cmp.Diff([]string{"B=1"}, w.effects()); diff != "" {
		t.Errorf("effects while A fails (-want +got):\n%s", diff)
	}
	if got := w.committed(topic, 0); got > 0 {
		t.Errorf("committed offset = %d while offset 0 is unfinished", got)
	}
	close(mend)
	m.awaitResults(inbox.Done, 3)
	w.awaitCommitted(0, 3)
	if diff := cmp.Diff([]string{"B=1", "A=1", "A=2"}, w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
}

// I1: marked before the handler, outside its transaction: a failure is lost.
func TestAFailedAttemptLeavesNoTraceAndIsRunAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"})
	var seen []string
	m := w.start(func(c *inbox.Config) {
		c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			seen = append(seen, fmt.Sprint(m.Attempt, " ", m.FirstFailedAt.IsZero()))
			if err := effect(ctx, tx, m); err != nil {
				return err
			}
			switch m.Attempt {
			case 1:
				return errors.New("after the effect was written")
			case 2:
				panic("after the effect was written")
			}
			return nil
		}
	})
	m.awaitResults(inbox.Done, 1)
	m.mustStop()
	if diff := cmp.Diff([]string{"1 true", "2 false", "3 false"}, seen); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a=1"}, w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 1, inbox.Retried: 2}, m.seen.all()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestTheLastAttemptBuriesAndTheKeyGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "A", value: "bad"}, event{key: "A", value: "2"})
	var c calls
	m := w.start(func(cfg *inbox.Config) {
		cfg.Retry.Attempts = 3
		cfg.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			c.add(m)
			if string(m.Payload) == "bad" {
				return errors.New("no")
			}
			return effect(ctx, tx, m)
		}
	})
	m.awaitResults(inbox.Done, 1)
	w.awaitCommitted(0, 2)
	m.mustStop()
	if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 1, inbox.Retried: 2, inbox.Dead: 1}, m.seen.all()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if n := c.of("A=bad"); n != 3 {
		t.Errorf("the handler was called %d times, want 3", n)
	}
	if n := w.count("inbox"); n != 2 {
		t.Errorf("inbox has %d rows, want 2: a buried message is accounted for", n)
	}
}

// Classes of errors, by how often the handler runs and where the message ends.
func TestTheClassOfAnErrorDecidesWhatFollows(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		fail  func(ctx context.Context, tx pgx.Tx, call int) error
		calls int
		want  map[inbox.Result]int

		timeout time.Duration // of the handler; zero: the default, which a busy machine does not reach
	}{
		{
			"a permanent error buries at once",
			func(context.Context, pgx.Tx, int) error {
				return inbox.Permanent(errors.New("no such user"), "unknown_user")
			},
			1,
			map[inbox.Result]int{inbox.Dead: 1},
			0,
		},
		{
			"data that the database never takes buries at once",
			func(ctx context.Context, tx pgx.Tx, _ int) error {
				_, err := tx.Exec(ctx, "select 'x'::text::int")
				return err
			},
			1,
			map[inbox.Result]int{inbox.Dead: 1},
			0,
		},
		{
			"a swallowed database error is a failed attempt, for the transaction cannot commit",
			func(ctx context.Context, tx pgx.Tx, call int) error {
				if call == 1 {
					_, _ = tx.Exec(ctx, "select 'x'::text::int")
				}
				return nil
			},
			2,
			map[inbox.Result]int{inbox.Retried: 1, inbox.Done: 1},
			0,
		},
		{
			"a conflict is run again at once, three times, then it is a failed attempt",
			func(_ context.Context, _ pgx.Tx, call int) error {
				if call <= 5 {
					return &pgconn.PgError{Code: "40001", Message: "could not serialize"}
				}
				return nil
			},
			6,
			map[inbox.Result]int{inbox.ConflictRetry: 4, inbox.Retried: 1, inbox.Done: 1},
			0,
		},
		{
			"another service that cannot be reached is waited for, longer than the attempts last",
			func(_ context.Context, _ pgx.Tx, call int) error {
				if call <= 6 {
					return fmt.Errorf("mail server: %w", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
				}
				return nil
			},
			7,
			map[inbox.Result]int{inbox.Held: 6, inbox.Done: 1},
			0,
		},
		{
			"a handler that would end the transaction is told no, and its effect stays with the inbox row",
			func(ctx context.Context, tx pgx.Tx, _ int) error {
				if tx.Commit(ctx) == nil || tx.Rollback(ctx) == nil {
					return inbox.Permanent(errors.New("it was allowed"), "bug")
				}
				return nil
			},
			1,
			map[inbox.Result]int{inbox.Done: 1},
			0,
		},
		{
			"a handler that ends the transaction in SQL has failed an attempt, and its message is not lost",
			func(ctx context.Context, tx pgx.Tx, call int) error {
				if call > 1 {
					return nil
				}
				_, err := tx.Exec(ctx, "rollback")
				return err
			},
			2,
			map[inbox.Result]int{inbox.Retried: 1, inbox.Done: 1},
			0,
		},
		{
			"a statement that runs into the handler's own deadline is a failed attempt, though it takes the connection with it",
			func(ctx context.Context, tx pgx.Tx, call int) error {
				if call > 1 {
					return nil
				}
				ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				defer cancel()
				_, err := tx.Exec(ctx, "select pg_sleep(60)")
				return err
			},
			2,
			map[inbox.Result]int{inbox.Retried: 1, inbox.Done: 1},
			0,
		},
		{
			"another service that cannot be reached is no outage of the database, though a statement failed before",
			func(ctx context.Context, tx pgx.Tx, call int) error {
				if call > 3 {
					return nil
				}
				_, _ = tx.Exec(ctx, "select 'x'::text::int")
				return fmt.Errorf("mail server: %w", &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED})
			},
			4,
			map[inbox.Result]int{inbox.Held: 3, inbox.Done: 1},
			0,
		},
		{
			"a handler that ignores the end of its context is cut off by the server's or the client's timeout",
			func(ctx context.Context, tx pgx.Tx, call int) error {
				if call > 1 {
					return nil
				}
				_, err := tx.Exec(ctx, "select pg_sleep(60)")
				return err
			},
			2,
			map[inbox.Result]int{inbox.Retried: 1, inbox.Done: 1},
			time.Second,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.publish(event{key: "a", value: "1"})
			var c calls
			m := w.start(func(cfg *inbox.Config) {
				cfg.Retry.Attempts = 2
				cfg.HandlerTimeout = tc.timeout
				cfg.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
					return tc.fail(ctx, tx, c.add(m))
				}
			})
			w.awaitCommitted(0, 1)
			m.mustStop()
			if diff := cmp.Diff(tc.want, m.seen.all()); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			if m.seen.has(pauses, topic+"/0 [outage]") {
				t.Error("the partition was paused for an outage of the database, which is healthy")
			}
			if got := c.of("a=1"); got != tc.calls {
				t.Errorf("the handler was called %d times, want %d", got, tc.calls)
			}
			if n := w.count("inbox"); n != 1 {
				t.Errorf("inbox has %d rows, want 1", n)
			}
		})
	}
}

// D17: a missing column during a rolling migration is sent to the dead letters.
func TestAMissingTableHoldsItsKeysUntilTheMigrationHasRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"}, event{key: "b", value: "1", eventType: "other"})
	m := w.start(func(c *inbox.Config) {
		c.Retry.Attempts = 1
		c.Handlers["other"] = effect
		c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			_, err := tx.Exec(ctx, "insert into effects_v2 (key) values ($1)", m.Key)
			return err
		}
	})
	m.awaitResults(inbox.Held, 3)
	m.awaitResults(inbox.Done, 1) // other types are not held up
	w.exec("create table effects_v2 (key text)")
	m.awaitResults(inbox.Done, 2)
	w.awaitCommitted(0, 2)
	m.mustStop()
	if n := m.seen.results(inbox.Dead); n != 0 {
		t.Errorf("%d messages were buried, want 0", n)
	}
	if m.seen.has(pauses, topic+"/0 [outage]") {
		t.Error("the partition was paused for an outage of the database, which is healthy")
	}
}

// I7: a concurrent duplicate under each isolation level that the database may have as its default.
func TestAConcurrentDuplicateIsADuplicateUnderEachDefaultIsolation(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.pool = w.poolWith("pool_max_conns=20", "default_transaction_isolation="+url.PathEscape(level))
			id := newID()
			w.publish(event{id: id, key: "a", value: "1"}, event{id: id, key: "b", value: "1"}) // two lanes, so at the same time
			entered, leave := make(chan struct{}, 2), make(chan struct{})
			m := w.start(func(c *inbox.Config) {
				c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
					entered <- struct{}{}
					<-leave
					return effect(ctx, tx, m)
				}
			})
			receive(t, "the handler", entered)
			await(t, "the other transaction to wait for the inbox row", func() bool {
				return w.count("pg_stat_activity where wait_event_type = 'Lock' and query like 'insert into inbox%' and datname = current_database()") == 1
			})
			close(leave)
			w.awaitCommitted(0, 2)
			m.mustStop()
			if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 1, inbox.Duplicate: 1}, m.seen.all()); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
			if n := len(w.effects()); n != 1 {
				t.Errorf("%d effects, want 1", n)
			}
		})
	}
}
