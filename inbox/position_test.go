package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/pgtest"
)

// position is the consumer's in a partition of the topic, -1 when there is none.
func (w *world) position(ctx context.Context, partition int32) (next int64, err error) {
	err = w.pool.QueryRow(ctx, `select p.next_offset from inbox_position p join inbox_consumer c on c.id = p.consumer
		where c.name = $1 and p.topic = $2 and p.partition = $3`, group, topic, partition).Scan(&next)
	if errors.Is(err, pgx.ErrNoRows) {
		return -1, nil
	}
	return next, err
}

func (w *world) mustHavePosition(want int64) {
	w.t.Helper()
	if got, err := w.position(w.t.Context(), 0); got != want || err != nil {
		w.t.Errorf("position = %d, %v, want %d", got, err, want)
	}
}

// moveOffset sets the group's offset by hand.
func (w *world) moveOffset(to int64) {
	w.t.Helper()
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: to, LeaderEpoch: -1})
	if err := w.admin.CommitAllOffsets(w.t.Context(), group, offsets); err != nil {
		w.t.Fatalf("move the offset: %v", err)
	}
}

// awaitPosition waits for the position in partition 0.
func (w *world) awaitPosition(want int64) {
	w.t.Helper()
	await(w.t, fmt.Sprintf("position %d", want), func() bool {
		next, err := w.position(w.t.Context(), 0)
		return err == nil && next == want
	})
}

// refusePositions has the database refuse every position, until the trigger is dropped.
func (w *world) refusePositions() {
	w.t.Helper()
	w.exec(`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'disk full' using errcode = '53100'; end $$`)
	w.exec(`create trigger refuse before insert on inbox_position for each row execute function refuse()`)
}

// apply runs a consumer until the offset in partition 0 is committed, and stops it.
func (w *world) apply(offset int64) *member {
	w.t.Helper()
	m := w.start(nil)
	w.awaitCommitted(0, offset)
	m.mustStop()
	return m
}

func (w *world) publishValues(from, below int) {
	w.t.Helper()
	for i := from; i < below; i++ {
		w.publish(event{key: "a", value: fmt.Sprint(i)})
	}
}

func values(from, below int) (list []string) {
	for i := from; i < below; i++ {
		list = append(list, fmt.Sprintf("a=%d", i))
	}
	return list
}

// Whatever Kafka is told, the database has it already.
func TestAPositionIsInTheDatabaseBeforeItsOffsetIsInKafka(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var told []string // by the broker's one goroutine of requests; read when the consumer has ended
	w.kafka.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.kafka.KeepControl()
		for _, p := range req.(*kmsg.OffsetCommitRequest).Topics[0].Partitions {
			if next, err := w.position(context.Background(), p.Partition); err != nil || next < p.Offset {
				told = append(told, fmt.Sprintf("offset %d, position %d, %v", p.Offset, next, err))
			}
		}
		return nil, nil, false
	})
	m := w.start(nil)
	for i := range 3 {
		w.publishValues(i, i+1)
		w.awaitCommitted(0, int64(i+1))
	}
	m.mustStop()
	if told != nil {
		t.Errorf("Kafka was told before the database: %v", told)
	}
	w.mustHavePosition(3)
}

func TestNoOffsetIsCommittedThatTheDatabaseCannotNote(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refusePositions()
	w.publishValues(0, 2)
	m := w.start(nil)
	m.awaitResults(inbox.Done, 2)
	await(t, "two commits that fail", func() bool { return m.seen.failedCommits() >= 2 })
	if got := w.committed(topic, 0); got != -1 {
		t.Errorf("committed = %d, want nothing", got)
	}
	w.exec(`drop trigger refuse on inbox_position`)
	w.awaitCommitted(0, 2)
	m.mustStop()
	w.mustHavePosition(2)
}

// O10: PostgreSQL loses its last transactions when Kafka has their offsets: what is gone is applied again, once, and nothing else is.
func TestWhatTheDatabaseLostIsAppliedAgain(t *testing.T) {
	t.Parallel()
	server := pgtest.StartServer(t)
	w := newWorldOn(t, server.Migrated(t))
	w.publishValues(0, 3)
	w.apply(3)
	server.Stop(t)
	server.Save(t)
	server.Start(t)

	w.publishValues(3, 8)
	w.apply(8)
	server.Stop(t)
	server.Restore(t)
	server.Start(t)

	m := w.start(nil)
	m.awaitResults(inbox.Done, 5)
	w.publishValues(8, 9)
	w.awaitCommitted(0, 9)
	m.mustStop()
	if diff := cmp.Diff(values(0, 9), w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	if n := m.seen.results(inbox.Duplicate); n != 0 {
		t.Errorf("%d duplicates, want none: nothing below the position is read again", n)
	}
	if got, want := m.seen.rewound(), []string{topic + "/0: 8 to 3"}; !cmp.Equal(got, want) {
		t.Errorf("rewound = %v, want %v", got, want)
	}
}

// O10, under a consumer that goes on running and believes that messages are applied whose effects are gone.
func TestADatabaseThatLosesItsEndUnderARunningConsumer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		noted bool // the positions of what is lost were written; otherwise only the server's timeline tells
		back  func(*pgtest.Server, testing.TB)
	}{
		{"a backup is put back", true, (*pgtest.Server).Start},
		{"a standby behind it is promoted", true, (*pgtest.Server).Promote},
		{"a standby behind it is promoted before a position is written", false, (*pgtest.Server).Promote},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.StartServer(t)
			w := newWorldOn(t, server.Migrated(t))
			w.publishValues(0, 3)
			m := w.start(nil)
			w.awaitCommitted(0, 3)
			if !tc.noted {
				w.refusePositions()
			}
			server.Stop(t)
			server.Save(t)
			server.Start(t)
			w.publishValues(3, 8)
			m.awaitResults(inbox.Done, 8)
			if tc.noted {
				w.awaitCommitted(0, 8)
			}
			server.Stop(t)
			server.Restore(t)
			tc.back(server, t)
			w.pool.Reset() // its idle connections were the stopped server's
			w.exec(`drop trigger if exists refuse on inbox_position`)
			m.awaitResults(inbox.Done, 13) // without any message that is new
			w.publishValues(8, 9)
			w.awaitCommitted(0, 9)
			m.mustStop()
			if diff := cmp.Diff(values(0, 9), w.effects()); diff != "" {
				t.Errorf("effects (-want +got):\n%s", diff)
			}
			w.mustHavePosition(9)
		})
	}
}

// O10: Kafka drops the offsets of a group that was away for some days.
func TestAGroupThatKafkaForgotGoesOnAtItsPosition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publishValues(0, 3)
	w.apply(3)
	if _, err := w.admin.DeleteGroup(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	w.publishValues(3, 5)
	m := w.apply(5)
	if diff := cmp.Diff(map[inbox.Result]int{inbox.Done: 2}, m.seen.all()); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

func TestAnOffsetThatWasMovedByHand(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		mode inbox.PositionMismatch
		to   int64
		want map[inbox.Result]int
	}{
		{"back", inbox.Rewind, 1, map[inbox.Result]int{inbox.Duplicate: 2, inbox.Done: 2}},
		{"forward, rewound", inbox.Rewind, 4, map[inbox.Result]int{inbox.Done: 2}},
		{"forward, trusted", inbox.TrustKafka, 4, map[inbox.Result]int{inbox.Done: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.publishValues(0, 3)
			w.apply(3)
			w.publishValues(3, 5)
			w.moveOffset(tc.to)
			m := w.start(func(c *inbox.Config) { c.PositionMismatch = tc.mode })
			w.awaitPosition(5)
			m.mustStop()
			if diff := cmp.Diff(tc.want, m.seen.all()); diff != "" {
				t.Errorf("results (-want +got):\n%s", diff)
			}
		})
	}
}

// A start that skips and is cut off before it reads leaves no mismatch to a start that does not.
func TestATrustedOffsetIsNotedBeforeItIsReadFrom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publishValues(0, 3)
	w.apply(3)
	w.publishValues(3, 5)
	w.moveOffset(5)
	m := w.start(func(c *inbox.Config) { c.PositionMismatch = inbox.TrustKafka })
	w.awaitPosition(5)
	m.mustStop()
	if n := len(w.effects()); n != 3 {
		t.Errorf("%d effects, want 3: the messages between are skipped", n)
	}
}

func TestAMismatchStopsTheConsumerThatIsToldSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publishValues(0, 3)
	w.apply(3)
	w.publishValues(3, 5)
	w.moveOffset(4)
	m := w.start(func(c *inbox.Config) { c.PositionMismatch = inbox.Stop })
	err := m.wait()
	if err == nil || !strings.Contains(err.Error(), "Kafka's offset is 4, but the database knows of messages below 3 only") || !strings.Contains(err.Error(), "trust-kafka") {
		t.Errorf("Run = %v, want both offsets and the ways on", err)
	}
	if n := len(w.effects()); n != 3 {
		t.Errorf("%d effects, want the 3 from before", n)
	}
}

// The position of a topic that was deleted says nothing about another one of its name.
func TestAPositionInAnotherTopicOfTheNameDoesNotCount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publishValues(0, 3)
	w.apply(3)
	if _, err := w.admin.DeleteGroup(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	if _, err := w.admin.DeleteTopics(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
	w.kafka.CreateTopic(t, topic, 1)
	w.producer = w.kafka.Client(t, kgo.RecordPartitioner(kgo.ManualPartitioner())) // the old one knows the old topic
	w.publishValues(3, 5)
	w.apply(2)
	if diff := cmp.Diff(values(0, 5), w.effects()); diff != "" {
		t.Errorf("effects (-want +got):\n%s", diff)
	}
	w.mustHavePosition(2)
}

// Where to begin is waited for, visibly; nothing is read meanwhile, and no restart is needed.
func TestAConsumerWaitsForItsPositions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publishValues(0, 1)
	w.apply(1)
	w.publishValues(1, 2)
	w.exec(`create function refuse() returns boolean language plpgsql as $$ begin raise exception 'no more connections' using errcode = '53300'; end $$`)
	w.exec(`alter table inbox_position rename to hidden`)
	w.exec(`create view inbox_position as select * from hidden where refuse()`)
	m := w.start(nil)
	await(t, "the consumer to say so", func() bool {
		return m.consumer.Ready() != nil && strings.Contains(m.log.String(), "where to begin is not known yet")
	})
	if n := len(w.effects()); n != 1 {
		t.Errorf("%d effects before the positions were known, want the one from before", n)
	}
	w.exec(`begin; drop view inbox_position; alter table hidden rename to inbox_position; commit`)
	w.awaitCommitted(0, 2)
	m.awaitReady()
	m.mustStop()
}
