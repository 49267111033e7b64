package inbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// PositionMismatch says what becomes of a partition of which Kafka has a later offset than the database has a position.
type PositionMismatch string

// What to do about a mismatch. It comes about when PostgreSQL lost its last transactions (a failover to a standby that was behind, a restored
// backup) or when somebody moved Kafka's offset forward by hand; the two look alike.
const (
	Rewind     PositionMismatch = "rewind"      // read again from the position: what the database lost is applied, what it kept is a duplicate
	Stop       PositionMismatch = "stop"        // Run returns an error that names both
	TrustKafka PositionMismatch = "trust-kafka" // go on at Kafka's offset, and note it as the position: the messages between are skipped
)

// position is a consumer's in one partition: all below next is durably accounted for.
type position struct {
	place
	topicID kadm.TopicID
	next    int64
}

// history tells one line of a database's transactions from another: a standby that is promoted begins a new timeline, and a backup that is put
// back is behind. What was committed before may be gone from it.
type history struct {
	timeline string // as in the names of the files of the log; empty when nothing is known yet
	flushed  string // how far the log was on disk
}

// errNewHistory says that what the consumer has in memory about the database is not true any more.
var errNewHistory = errors.New("the database has another history than before, as after a failover or with a backup put back")

const (
	// known is the history of a moment ago, $1 and $2. The log on disk goes back in no crash.
	historySQL = `
  select timeline, flushed, ($1 = '' or timeline = $1) and flushed >= $2::text::pg_lsn as known
    from (select left(pg_walfile_name(pg_current_wal_flush_lsn()), 8) as timeline, pg_current_wal_flush_lsn() as flushed) as log`

	// The rows are taken in one order, so that two owners of other partitions, or of the same for a moment, cannot deadlock. A position only
	// grows, whoever writes it, because what it says stays true; but only within one log of Kafka's, and within one history.
	advanceSQL = `
with server as (` + historySQL + `
), written as (
  insert into inbox_position as p (consumer, topic, partition, topic_id, next_offset)
  select $3, x.topic, x.partition, x.topic_id, x.next_offset
    from server, unnest($4::text[], $5::integer[], $6::uuid[], $7::bigint[]) as x (topic, partition, topic_id, next_offset)
   where server.known
   order by x.topic, x.partition
  on conflict (consumer, topic, partition) do update
     set next_offset = case when p.topic_id = excluded.topic_id then greatest(p.next_offset, excluded.next_offset) else excluded.next_offset end,
         topic_id = excluded.topic_id, updated_at = now()
)
select timeline, flushed::text, known from server`

	checkHistorySQL = `select timeline, flushed::text, known from (` + historySQL + `) as server`

	positionsSQL = `select topic, partition, topic_id, next_offset from inbox_position where consumer = $1 and topic = any ($2)`
)

// advance writes positions, in a transaction of their own: in the handlers' they would make these wait for each other. It writes nothing and
// returns errNewHistory when that is so.
func (s *store) advance(ctx context.Context, positions []position) error {
	topics, numbers, ids, nexts := make([]string, len(positions)), make([]int32, len(positions)), make([][16]byte, len(positions)), make([]int64, len(positions))
	for i, p := range positions {
		topics[i], numbers[i], ids[i], nexts[i] = p.topic, p.number, p.topicID, p.next
	}
	if err := s.inHistory(ctx, advanceSQL, s.consumer, topics, numbers, ids, nexts); err != nil {
		return fmt.Errorf("write positions to inbox_position: %w", err)
	}
	return nil
}

// inHistory runs a statement that begins with historySQL, and remembers where the database is then. The first one learns the history.
func (s *store) inHistory(ctx context.Context, sql string, args ...any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var (
		now   history
		known bool
	)
	args = append([]any{s.history.timeline, cmp.Or(s.history.flushed, "0/0")}, args...)
	if err := s.pool.QueryRow(ctx, sql, args...).Scan(&now.timeline, &now.flushed, &known); err != nil {
		return err
	}
	if !known {
		return fmt.Errorf("%w: timeline %s up to %s, it was %s up to %s", errNewHistory, now.timeline, now.flushed, s.history.timeline, s.history.flushed)
	}
	s.history = now
	return nil
}

// positions are those that the consumer has in the topics, whoever wrote them.
func (s *store) positions(ctx context.Context, topics []string) ([]position, error) {
	rows, err := s.pool.Query(ctx, positionsSQL, s.consumer, topics)
	if err != nil {
		return nil, fmt.Errorf("read positions from inbox_position: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p position, err error) {
		return p, row.Scan(&p.topic, &p.number, &p.topicID, &p.next)
	})
	if err != nil {
		return nil, fmt.Errorf("read positions from inbox_position: %w", err)
	}
	return found, nil
}

// fetched are offsets as the client has them from Kafka, by topic and partition.
type fetched = map[string]map[int32]kgo.Offset

// reconcile is called by the client when it has fetched the offsets of an assignment and before it reads. It waits for the database as long as
// the assignment lasts: without the positions nobody knows where to begin.
func (r *run) reconcile(ctx context.Context, offsets fetched) (fetched, error) {
	<-r.begun
	for n := 1; ; n++ {
		err := r.settleOffsets(ctx, offsets)
		if err == nil {
			r.ready(nil)
			return offsets, nil
		}
		if ctx.Err() != nil { // the next assignment is reconciled in turn
			return nil, ctx.Err()
		}
		if _, mismatch := errors.AsType[*mismatchError](err); mismatch || isSkew(err) || errors.Is(err, errNewHistory) {
			r.fail(err)
			return nil, err
		}
		wait := exponential(r.cfg.Retry.Min, r.cfg.Retry.Max, outageGrowth, n)
		r.ready(errUnreconciled)
		r.cfg.Logger.Warn("where to begin is not known yet; nothing is read", "group", r.cfg.Group, "retry_in", wait, "error", err)
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// reconcileLimit bounds one try: Kafka tells the topics' ids, the database the positions.
const reconcileLimit = 5 * time.Second

// settleOffsets moves each offset to where the consumer begins: to the lower one of Kafka's and the position, and to the position where Kafka has
// none any more, which it drops some days after the group's last member left.
func (r *run) settleOffsets(ctx context.Context, offsets fetched) error {
	ctx, cancel := context.WithTimeout(ctx, reconcileLimit)
	defer cancel()
	names := slices.Sorted(maps.Keys(offsets))
	topics, err := r.learnTopics(ctx, names)
	if err != nil {
		return err
	}
	if err := r.store.inHistory(ctx, checkHistorySQL); err != nil { // before the positions: what comes between is noticed with the first one written
		return fmt.Errorf("ask for the timeline: %w", err)
	}
	positions, err := r.store.positions(ctx, names)
	if err != nil {
		return err
	}
	var trusted []position
	for _, p := range positions {
		kafka, assigned := offsets[p.topic][p.number]
		at := kafka.EpochOffset().Offset // negative when Kafka has none
		switch log := r.cfg.Logger.With("group", r.cfg.Group, "topic", p.topic, "partition", p.number, "position", p.next, "kafka", at); {
		case !assigned, at == p.next:
		case p.topicID != topics[p.topic].ID:
			log.Warn("the topic was made anew: the position belongs to the old one and does not count")
		case at < 0:
			log.Info("Kafka has no offset of the group any more; reading goes on at the position")
			offsets[p.topic][p.number] = kgo.NewOffset().At(p.next)
		case at < p.next:
			log.Info("Kafka's offset is before the position; what was applied counts as a duplicate")
		case r.cfg.PositionMismatch == Stop:
			return &mismatchError{position: p, kafka: at}
		case r.cfg.PositionMismatch == TrustKafka:
			log.Warn("Kafka's offset is beyond the position and is trusted: the messages between are skipped")
			p.next = at
			trusted = append(trusted, p)
		default:
			log.Warn("Kafka's offset is beyond the position: the database lost its last transactions, or somebody moved the offset; " +
				"the messages between are read again")
			offsets[p.topic][p.number] = kgo.NewOffset().At(p.next)
			r.observe.rewound(p.topic, p.number, at, p.next)
		}
	}
	if len(trusted) == 0 {
		return nil
	}
	return r.store.advance(ctx, trusted)
}

// learnTopics asks for topics and keeps their ids for the committer.
func (r *run) learnTopics(ctx context.Context, names []string) (kadm.TopicDetails, error) {
	topics, err := kadm.NewClient(r.client).ListTopics(ctx, names...)
	if err == nil {
		err = topics.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the ids of the topics: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range names {
		r.topicIDs[name] = topics[name].ID
	}
	return topics, nil
}

// positionsOf are the positions that belong to offsets which are to be committed.
func (r *run) positionsOf(offsets map[string]map[int32]kgo.EpochOffset) (list []position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, numbers := range offsets {
		for number, at := range numbers {
			list = append(list, position{place: place{topic, number}, topicID: r.topicIDs[topic], next: at.Offset})
		}
	}
	return list
}

// mismatchError says that Kafka's offset is beyond the position, and that the consumer was told to stop then.
type mismatchError struct {
	position
	kafka int64
}

func (e *mismatchError) Error() string {
	return fmt.Sprintf("%s/%d: Kafka's offset is %d, but the database knows of messages below %d only: it lost its last transactions, or somebody moved "+
		"the offset. Start with position-mismatch rewind to read the messages between again (what was applied counts as a duplicate), or with "+
		"trust-kafka to skip them", e.topic, e.number, e.kafka, e.next)
}
