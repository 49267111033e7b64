package bench

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// eventType is the type of every event, and the end of its topic's name.
const eventType = "orders.placed"

// writers write at a steady rate, each on a connection of its own; an aggregate's events all come from one of them, since keys is a multiple.
const writers = 16

// workload writes a backlog, with payloads as payload makes them.
const workload = `
create function bench_payload(seq bigint) returns json language sql immutable as $$
  select (head || rpad('', 427 - 2 - length(head), 'The parcel goes to the neighbour when nobody is at home. ') || '"}')::json
  from (select '{"order":"' || md5('o' || seq) || '","customer":"' || md5('c' || seq) || '","address":"' || md5('a' || seq)
    || '","card":"' || md5('k' || seq) || '","total":"' || seq % 100000 || '.95","currency":"EUR","note":"' as head) h
$$;
create procedure bench_fill(prefix text, last bigint) language plpgsql as $$
begin
  for seq in 1..last loop
    insert into outbox_events (id, aggregate_type, aggregate_id, event_type, payload)
    values ((prefix || lpad(to_hex(seq), 12, '0'))::uuid, 'order', 'order-' || seq % 1024, 'orders.placed', bench_payload(seq));
    commit;
  end loop;
end
$$`

// Statements that write a backlog, of a prefix of ids and a number of rows: each row a transaction, or all of them one.
const (
	fillOneByOne = `call bench_fill('%s', %d)`
	fillAtOnce   = `
insert into outbox_events (id, aggregate_type, aggregate_id, event_type, payload)
select (prefix || lpad(to_hex(seq), 12, '0'))::uuid, 'order', 'order-' || seq %% 1024, 'orders.placed', bench_payload(seq)
from (select '%s' as prefix) p, generate_series(1, %d) seq`
)

// payload is that of an event. Half of it is digests, which do not compress, and half is text, which does.
func payload(seq int) []byte {
	digest := func(of string) string {
		sum := md5.Sum([]byte(of + strconv.Itoa(seq)))
		return hex.EncodeToString(sum[:])
	}
	text := fmt.Sprintf(`{"order":"%s","customer":"%s","address":"%s","card":"%s","total":"%d.95","currency":"EUR","note":"`,
		digest("o"), digest("c"), digest("a"), digest("k"), seq%100000)
	const note = "The parcel goes to the neighbour when nobody is at home. "
	return []byte(text + strings.Repeat(note, payloadBytes/len(note))[:payloadBytes-2-len(text)] + `"}`)
}

// idPrefix begins the ids of a lane: a UUIDv7 of now whose random part is the lane's number and the event's.
func idPrefix(now time.Time, number int) string {
	ms := now.UnixMilli()
	return fmt.Sprintf("%08x-%04x-7%03x-8000-", ms>>16, ms&0xffff, number&0xfff)
}

// fill runs a statement that writes a backlog, on one connection, not waiting for the disk: nobody reads it yet. It returns the log's end after it.
func (w *world) fill(ctx context.Context, statement string) (until string, err error) {
	conn, err := pgx.Connect(ctx, w.url())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // everything has been answered
	for _, sql := range []string{`set synchronous_commit = off`, statement, `checkpoint`} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return "", fmt.Errorf("write the backlog: %w", err)
		}
	}
	err = conn.QueryRow(ctx, `select pg_current_wal_flush_lsn()::text`).Scan(&until)
	return until, err
}

// load writes count events with the numbers from first on, spread evenly over time. Commits wait for the disk, as PostgreSQL's default is. It notes
// in committed, by number, when the commit's answer was there.
type load struct {
	prefix    string
	began     time.Time
	committed []time.Duration
}

// write returns when all are written. A writer that comes too late for its moment goes on at once.
func (l *load) write(ctx context.Context, conns []*pgx.Conn, first, count, rate int) error {
	start := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for i, conn := range conns {
		group.Go(func() error {
			for k := range count {
				if seq := first + k; seq%len(conns) == i {
					due := start.Add(time.Duration(k) * time.Second / time.Duration(rate))
					if err := l.append(ctx, conn, seq, due); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (l *load) append(ctx context.Context, conn *pgx.Conn, seq int, due time.Time) error {
	if wait := time.Until(due); wait > 0 {
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
	// The statement itself and not a function around it, which PostgreSQL would plan anew each time and pay more for than for the row.
	_, err := conn.Exec(ctx, `insert into outbox_events (id, aggregate_type, aggregate_id, event_type, payload) values ($1, 'order', $2, $3, $4)`,
		fmt.Sprintf("%s%012x", l.prefix, seq), "order-"+strconv.Itoa(seq%keys), eventType, payload(seq))
	if err != nil {
		return fmt.Errorf("append event %d: %w", seq, errors.Join(err, context.Cause(ctx)))
	}
	l.committed[seq] = time.Since(l.began)
	return nil
}

// connect opens the writers' connections.
func (w *world) connect(ctx context.Context, n int) (conns []*pgx.Conn, closeAll func(), err error) {
	closeAll = func() {
		for _, conn := range conns {
			_ = conn.Close(context.WithoutCancel(ctx)) // everything has been answered
		}
	}
	for range n {
		conn, err := pgx.Connect(ctx, w.url())
		if err != nil {
			closeAll()
			return nil, nil, err
		}
		conns = append(conns, conn)
	}
	return conns, closeAll, nil
}
