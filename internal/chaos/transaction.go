package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

// transaction is what one transaction of the workload does, decided beforehand so that it depends on the seed alone.
type transaction struct {
	aggregate string
	topic     string
	payloads  []json.RawMessage // one an event; nil: a tombstone
	discarded json.RawMessage   // of an event in a savepoint that is rolled back; nil: there is none
	deleted   bool              // the rows are deleted again in the same transaction, which does not take the events back
	rollback  bool
	twoPhase  bool
	gid       string // of two-phase commit
}

func plan(random *rand.Rand, topics []string) transaction {
	n := random.IntN(aggregates)
	t := transaction{
		aggregate: fmt.Sprintf("aggregate-%d", n), topic: topics[n%len(topics)],
		rollback: random.IntN(10) == 0, deleted: random.IntN(20) == 0, twoPhase: random.IntN(30) == 0,
	}
	for range 1 + random.IntN(3) {
		t.payloads = append(t.payloads, payload(random))
	}
	if random.IntN(8) == 0 {
		t.discarded = payload(random)
	}
	return t
}

// makeLarge gives the transaction more events than a batch of the relay takes.
func (t *transaction) makeLarge(random *rand.Rand) {
	t.payloads, t.discarded, t.deleted, t.rollback, t.twoPhase = nil, nil, false, false, false
	for n := range largeEvents {
		t.payloads = append(t.payloads, json.RawMessage(fmt.Sprintf(`{"n":%d,"of":%d,"draw":%d}`, n, largeEvents, random.Uint32())))
	}
}

// payload is of any size from none to nearly the limit, mostly small, and now and then of what a careless step would change.
func payload(random *rand.Rand) json.RawMessage {
	switch n := random.IntN(1000); {
	case n < 50:
		return nil
	case n < 100:
		return json.RawMessage(`""`)
	case n < 150:
		return json.RawMessage(fmt.Sprintf(` { "text" : "\u0041é€😀\"\\\t</>" , "b":1.50e+2,"b":%d, "a" :[ ] } `, random.Uint64()))
	case n < 170:
		return filled(random, 20_000+random.IntN(60_000))
	case n < 172:
		return filled(random, 300_000+random.IntN(outbox.MaxPayloadBytes-300_000))
	default:
		return filled(random, 40+random.IntN(800))
	}
}

// filled is a payload of so many bytes, no two of which are the same.
func filled(random *rand.Rand, size int) json.RawMessage {
	begin := `{"draw":` + strconv.FormatUint(random.Uint64(), 10) + `,"fill":"`
	return json.RawMessage(begin + strings.Repeat("x", max(size-len(begin)-2, 0)) + `"}`)
}

// run carries the transaction out. An error that matches errUnknown leaves open whether it was committed.
func (t transaction) run(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit it does nothing
	var version int64
	if err := tx.QueryRow(ctx, `select version from chaos_aggregates where id = $1 for update`, t.aggregate).Scan(&version); err != nil {
		return err
	}
	if t.discarded != nil {
		if err := t.discard(ctx, tx, version); err != nil {
			return err
		}
	}
	if err := t.append(ctx, tx, version); err != nil {
		return err
	}
	return t.end(ctx, tx)
}

// discard appends an event and rolls it back.
func (t transaction) discard(ctx context.Context, tx pgx.Tx, version int64) error {
	nested, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if err := outboxpgx.Append(ctx, nested, t.event(version+1, t.discarded)); err != nil {
		return err
	}
	return nested.Rollback(ctx)
}

// append appends the events and tells the oracle.
func (t transaction) append(ctx context.Context, tx pgx.Tx, version int64) error {
	events := make([]outbox.Event, 0, len(t.payloads))
	var ids, versions, sums []string
	for i, p := range t.payloads {
		ev := t.event(version+1+int64(i), p)
		ev.ID = outbox.NewID()
		events = append(events, ev)
		ids, versions, sums = append(ids, ev.ID.String()), append(versions, strconv.FormatInt(version+1+int64(i), 10)), append(sums, strconv.FormatUint(sum(p), 10))
	}
	if err := outboxpgx.Append(ctx, tx, events...); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	batch.Queue(`insert into chaos_events (id, topic, aggregate, version, sum)
		select id, $2, $3, version, sum from unnest($1::uuid[], $4::bigint[], $5::numeric[]) e(id, version, sum)`, ids, t.topic, t.aggregate, versions, sums)
	batch.Queue(`update chaos_aggregates set version = $2 where id = $1`, t.aggregate, version+int64(len(events)))
	if t.deleted {
		batch.Queue(`delete from outbox_events where id = any($1::uuid[])`, ids)
	}
	return tx.SendBatch(ctx, batch).Close()
}

func (t transaction) event(version int64, payload json.RawMessage) outbox.Event {
	return outbox.Event{
		AggregateType: "chaos", AggregateID: t.aggregate, Type: t.topic, Payload: payload,
		Headers: map[string]string{versionHeader: strconv.FormatInt(version, 10)}, // a tombstone has nothing else to say it with
	}
}

// versionHeader is the writer's own header with the version.
const versionHeader = "version"

func (t transaction) end(ctx context.Context, tx pgx.Tx) error {
	switch {
	case t.rollback:
		return tx.Rollback(ctx)
	case t.twoPhase:
		if _, err := tx.Exec(ctx, `prepare transaction `+quote(t.gid)); err != nil {
			return fmt.Errorf("prepare, %w: %w", errUnknown, err)
		}
		if _, err := tx.Conn().Exec(ctx, `commit prepared `+quote(t.gid)); err != nil {
			return fmt.Errorf("commit prepared, %w: %w", errUnknown, err)
		}
		return nil
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit, %w: %w", errUnknown, err)
	}
	return nil
}

// quote makes a literal of an id, which has no character that would need more.
func quote(gid string) string { return "'" + gid + "'" }
