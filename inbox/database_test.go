package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
)

// I2, I8: the database is killed between the parts of the work, again and again; nothing is lost, nothing is applied twice, nothing is
// buried, and no restart is needed.
func TestAKilledDatabaseLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	const messages, kills = 600, 3
	server := pgtest.StartServer(t)
	w := newWorldOn(t, server.Migrated(t))
	var made atomic.Int64
	var c calls
	stuck := make(chan struct{}, kills)
	m := w.start(func(cfg *inbox.Config) {
		cfg.Retry.Attempts = 1 // an outage that counted as an attempt would bury
		cfg.Retry.Max = 500 * time.Millisecond
		cfg.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			made.Add(1)
			if err := effect(ctx, tx, m); err != nil {
				return err
			}
			sleep := 0.005
			if strings.HasSuffix(string(m.Payload), ".050") && c.add(m) == 1 { // the kill meets at least this one in its transaction
				sleep = 25
				stuck <- struct{}{}
			}
			_, err := tx.Exec(ctx, "select pg_sleep($1)", sleep)
			return err
		}
	})
	for round := range kills {
		for i := range messages / kills {
			w.publish(event{key: fmt.Sprint("k", i%20), value: fmt.Sprintf("%d.%03d", round, i)})
		}
		receive(t, "a handler that is in its transaction", stuck)
		held := m.seen.results(inbox.Held)
		server.Kill9(t)
		m.awaitResults(inbox.Held, held+1)
		if m.consumer.Ready() != nil {
			t.Error("the consumer left its group because of the database")
		}
		server.Start(t)
	}
	w.awaitCommitted(0, messages)
	m.mustStop()
	w.mustHaveEach(messages)
	if n := w.count("inbox"); n != messages {
		t.Errorf("inbox has %d rows, want %d", n, messages)
	}
	got := m.seen.all()
	t.Logf("results: %v, handler calls: %d", got, made.Load())
	if got[inbox.Dead] != 0 || got[inbox.Retried] != 0 {
		t.Errorf("results = %v, want no attempt counted and nothing buried", got)
	}
	if !m.seen.has(pauses, topic+"/0 [outage]") || !m.seen.has(pauses, topic+"/0 []") {
		t.Errorf("pauses = %v, want the partition paused for the outage and resumed", m.seen.pauses)
	}
	last := make(map[string]string)
	for _, e := range w.effects() {
		key, value, _ := strings.Cut(e, "=")
		if value <= last[key] {
			t.Errorf("key %s: %s came after %s", key, value, last[key])
		}
		last[key] = value
	}
}

// M4: the lag of an outage stands still, and nobody sees how far behind the consumer is.
func TestTheLagGrowsWhileTheDatabaseIsOut(t *testing.T) {
	t.Parallel()
	server := pgtest.StartServer(t)
	w := newWorldOn(t, server.Migrated(t))
	w.publish(event{key: "a", value: "0"})
	m := w.start(func(c *inbox.Config) { c.Retry.Min, c.Retry.Max = time.Hour, time.Hour }) // nothing is read meanwhile, for a probe
	m.awaitResults(inbox.Done, 1)
	server.Stop(t)
	w.publish(event{key: "a", value: "1"})
	await(t, "the pause", func() bool { return m.seen.has(pauses, topic+"/0 [outage]") })
	for i := range 10 {
		w.publish(event{key: "a", value: fmt.Sprint(2 + i)})
	}
	await(t, "a lag of all that is not applied", func() bool {
		lags := m.seen.lag()
		return len(lags) == 1 && lags[0].Records == 11
	})
	_ = m.stop() // its database is out
}

// I9: synchronous_commit = off loses what Kafka believes to be done.
func TestADatabaseThatMayForgetIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool = w.poolWith("synchronous_commit=off")
	m := w.start(nil)
	if err := m.wait(); err == nil || !strings.Contains(err.Error(), "synchronous_commit is off") {
		t.Errorf("Run = %v, want a refusal of synchronous_commit=off", err)
	}
}

func TestAMissingInboxTableStopsTheStartAndSaysWhatToRun(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, pgtest.URL(t))
	m := w.start(nil)
	if err := m.wait(); err == nil || !strings.Contains(err.Error(), "walpost migrate up") {
		t.Errorf("Run = %v, want the command that makes the tables", err)
	}
}

func TestADatabaseThatIsNotThereYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := pgtest.StartServer(t)
	w := newWorldOn(t, server.Migrated(t))
	server.Stop(t)
	w.publish(event{key: "a", value: "1"})
	m := w.start(nil)
	await(t, "the consumer to wait", func() bool { return strings.Contains(m.log.String(), "has not started") })
	if m.consumer.Ready() == nil {
		t.Error("Ready = nil before the consumer joined")
	}
	server.Start(t)
	m.awaitResults(inbox.Done, 1)
	m.mustStop()
}

func TestAConsumerThatWaitsForItsDatabaseCanBeStopped(t *testing.T) {
	t.Parallel()
	server := pgtest.StartServer(t)
	w := newWorldOn(t, server.Migrated(t))
	server.Stop(t)
	m := w.start(nil)
	await(t, "the consumer to wait", func() bool { return strings.Contains(m.log.String(), "has not started") })
	m.mustStop()
}

// I6: the id space is shared between consumers.
func TestTwoGroupsOnOneDatabaseEachApplyEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(event{key: "a", value: "1"})
	one := w.start(nil)
	other := w.start(func(c *inbox.Config) { c.Group = "another" })
	one.awaitResults(inbox.Done, 1)
	other.awaitResults(inbox.Done, 1)
	one.mustStop()
	other.mustStop()
	if n := w.count("inbox"); n != 2 {
		t.Errorf("inbox has %d rows, want 2", n)
	}
}

// The identity column of inbox_consumer is a smallint: a start must not use a number up.
func TestARestartKeepsItsNumberAndUsesNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 3 {
		m := w.start(nil)
		m.awaitReady()
		m.mustStop()
	}
	var last int
	if err := w.pool.QueryRow(t.Context(), "select last_value from pg_sequences where sequencename like 'inbox_consumer%'").Scan(&last); err != nil {
		t.Fatal(err)
	}
	if n := w.count("inbox_consumer"); n != 1 || last != 1 {
		t.Errorf("inbox_consumer has %d rows, its sequence stands at %d, want 1 and 1", n, last)
	}
}

// I4, I5, I14: which messages are duplicates.
func TestDuplicatesAreFoundByIdAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`create table inbox_20260101 partition of inbox
		for values from ('019b76da-a800-0000-0000-000000000000') to ('019b7c01-0400-0000-0000-000000000000')`)
	const yesterday = "019b7c01-03ff-7000-8000-000000000001" // the last millisecond of 2026-01-01
	today := newID()
	w.publish(
		event{key: "a", value: "1", id: yesterday}, event{key: "a", value: "1", id: today}, // equal payloads, both are applied
		event{key: "a", value: "1", id: yesterday}, event{key: "a", value: "1", id: today}, // again, after midnight of the first
		event{key: "b", value: "1", id: strings.ToUpper(today)}, // the same id in another spelling
		event{key: "a", value: "1", id: "order-17"}, event{key: "a", value: "1", id: "order-17"},
	)
	m := w.start(nil)
	w.awaitCommitted(0, 7)
	w.publish(event{key: "c", value: "1", id: today}) // in another poll
	w.awaitCommitted(0, 8)
	m.mustStop()
	if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 3, inbox.Duplicate: 5}, m.seen.all()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if n := w.count("inbox_20260101"); n != 1 {
		t.Errorf("partition of yesterday has %d rows, want 1", n)
	}
}

// I5: with messages of the server in another language.
func TestDuplicatesAreFoundWhateverTheServerSpeaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pool = w.poolWith("lc_messages=C")
	if _, err := w.pool.Exec(t.Context(), "set lc_messages = 'de_DE.UTF-8'"); err == nil {
		w.pool = w.poolWith("lc_messages=de_DE.UTF-8")
	}
	id := newID()
	w.publish(event{key: "a", value: "1", id: id}, event{key: "b", value: "1", id: id})
	m := w.start(nil)
	w.awaitCommitted(0, 2)
	m.mustStop()
	if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 1, inbox.Duplicate: 1}, m.seen.all()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestAMessageWithoutAnIdIsKnownByItsPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 2 {
		r := event{key: "a", value: "1"}.record()
		r.Headers = r.Headers[1:]
		w.produce(r)
	}
	ids := make(chan string, 2)
	m := w.start(func(c *inbox.Config) {
		c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			ids <- m.ID
			for _, h := range m.Record.Headers {
				if h.Key == record.HeaderID {
					return inbox.Permanent(errors.New("the record was given a header"), "bug")
				}
			}
			return effect(ctx, tx, m)
		}
	})
	m.awaitResults(inbox.Done, 2)
	m.mustStop()
	if a, b := <-ids, <-ids; a == b || len(a) != 36 {
		t.Errorf("ids = %q, %q, want two different UUIDs", a, b)
	}
	if n := strings.Count(m.log.String(), "records without header id"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
}
