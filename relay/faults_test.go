package relay_test

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
)

// wantAll checks that the events with keys 1 to n and no others, committed in this order, are in the topic, first appearances in this order within each
// partition, and that there is no other appearance where the relays deliver exactly once.
func (w *whole) wantAll(t *testing.T, n int) *topicReader {
	t.Helper()
	topic := w.reader(t)
	topic.until(t, n)
	topic.toEnd(t)
	last := make(map[int32]int)
	for _, rec := range topic.first {
		key, err := strconv.Atoi(string(rec.Key))
		if err != nil || key <= last[rec.Partition] || key > n {
			t.Fatalf("partition %d: key %s came behind %d, want commit order", rec.Partition, rec.Key, last[rec.Partition])
		}
		last[rec.Partition] = key
	}
	if again := topic.repeats(); again > 0 && w.delivery == relay.ExactlyOnce {
		t.Errorf("%d of %d events were published again, want none", again, n)
	}
	return topic
}

func TestRule5NothingIsConfirmedBeforeKafkaAcknowledges(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		w := newWhole(t, pgtest.StartServer(t).Migrated(t)) // alone on its server: what others write may be confirmed at any time
		w.delivery = delivery
		r := w.start(t)
		r.await(t, relay.StateStreaming)
		arrived, release := make(chan struct{}), make(chan struct{})
		w.broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			w.broker.DropControl()
			w.broker.SleepControl(func() { close(arrived); <-release })
			return nil, nil, false
		})
		before := w.currentLSN(t)
		w.exec(t, insert("held"))
		<-arrived
		var last, heard time.Time
		reports := 0
		eventually(t, "three status updates while the broker does not answer", func() bool {
			err := w.QueryRow(t.Context(), `select coalesce(max(reply_time), 'epoch') from pg_stat_replication
				where pid = (select active_pid from pg_replication_slots where slot_name = $1)`, w.slot).Scan(&heard)
			if err != nil {
				t.Fatal(err)
			}
			if heard.After(last) {
				reports, last = reports+1, heard
			}
			return reports > 3
		})
		if got := w.confirmed(t); got > before {
			t.Errorf("slot stands at %s while the broker holds the event back, want at most %s", got, before)
		}
		close(release)
		eventually(t, "the slot behind the event", func() bool { return w.confirmed(t) > before })
	})
}

func TestARelayThatIsStoppedAndStartedRepeatsNothing(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		const rounds, each = 4, 500
		w := newWhole(t, pgtest.Migrated(t))
		w.delivery = delivery
		first := w.start(t)
		first.await(t, relay.StateStreaming)
		var wrote sync.WaitGroup
		wrote.Go(func() { w.insertRange(t, 1, rounds*each) })
		for round := range rounds {
			target := "select count(*) >= $1 from outbox_events"
			eventually(t, "events to be written", func() (enough bool) {
				if err := w.QueryRow(t.Context(), target, (round+1)*each/2).Scan(&enough); err != nil {
					t.Error(err)
				}
				return enough
			})
			if err := first.stop(); err != nil {
				t.Fatalf("Run = %v, want nil", err)
			}
			first = w.start(t)
		}
		wrote.Wait()
		if n := w.wantAll(t, rounds*each).repeats(); n != 0 {
			t.Errorf("%d events were published again after clean stops, want none", n)
		}
	})
}

func TestPostgreSQLMayRestartOrCrash(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		srv := pgtest.StartServer(t)
		w := newWhole(t, srv.Migrated(t))
		w.delivery = delivery
		r := w.start(t)
		r.await(t, relay.StateStreaming)
		n := 0
		for name, fault := range map[string]func(){
			"restart":       func() { srv.Restart(t) },
			"kill -9":       func() { srv.Kill9(t); srv.Start(t) },
			"kill -9 again": func() { srv.Kill9(t); srv.Start(t) },
		} {
			w.insertRange(t, n+1, n+300)
			n += 300
			fault()
			r.await(t, relay.StateStreaming)
			t.Logf("streaming again after %s", name)
			w.Reset() // its connections are gone
		}
		w.insertRange(t, n+1, n+100)
		topic := w.wantAll(t, n+100)
		t.Logf("%d events, %d repeats", len(topic.ids), topic.repeats())
	})
}

func TestConnectionsMayBeCutAtBothEnds(t *testing.T) {
	t.Parallel()
	const total = 3000
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		rng := rand.New(rand.NewPCG(*seed, 1))
		w := newWhole(t, pgtest.Migrated(t), kfake.NumBrokers(3))
		w.delivery = delivery
		r := w.start(t)
		r.await(t, relay.StateStreaming)
		var wrote sync.WaitGroup
		stop := make(chan struct{}) // closed when all is written
		wrote.Go(func() { defer close(stop); w.insertRange(t, 1, total) })
		cuts, faults := 0, 0
		for done := false; !done; {
			pause := time.NewTimer(time.Duration(20+rng.IntN(100)) * time.Millisecond)
			select {
			case <-stop:
				done = true
			case <-pause.C:
			}
			switch rng.IntN(5) {
			case 0:
				w.exec(t, "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active", w.slot)
				cuts++
			case 1:
				w.broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
				faults++
			case 2:
				w.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut})
				faults++
			case 3:
				if err := w.broker.MoveTopicPartition("things", int32(rng.IntN(3)), int32(rng.IntN(3))); err != nil {
					t.Error(err)
				}
				faults++
			case 4: // exactly once only
				w.broker.ControlKey(int16(kmsg.EndTxn), func(kmsg.Request) (kmsg.Response, error, bool) { return nil, errors.New("cut"), true })
				faults++
			}
		}
		wrote.Wait()
		topic := w.wantAll(t, total)
		t.Logf("seed %d: %d events, %d repeats after %d cuts at the database and %d faults at the broker", *seed, len(topic.ids), topic.repeats(), cuts, faults)
	})
}

func TestTheBrokerMayRestart(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		opts := []kfake.Opt{kfake.Ports(port), kfake.DataDir(t.TempDir())}
		w := newWhole(t, pgtest.Migrated(t), opts...)
		w.delivery = delivery
		r := w.start(t)
		r.await(t, relay.StateStreaming)
		w.insertRange(t, 1, 100)
		w.broker.Close()
		w.insertRange(t, 101, 200)
		w.broker = newWhole(t, w.url, opts...).broker
		w.insertRange(t, 201, 300)
		w.wantAll(t, 300)
	})
}

func TestRule10TheSecondRelayTakesOver(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		w := newWhole(t, pgtest.Migrated(t))
		w.delivery = delivery
		first := w.start(t)
		first.await(t, relay.StateStreaming)
		second := w.start(t)
		second.await(t, relay.StateStandby)
		w.insertRange(t, 1, 100)
		if err := first.stop(); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		second.await(t, relay.StateStreaming)
		w.insertRange(t, 101, 200)
		w.wantAll(t, 200)
	})
}

func TestRule9AMissingTopicHaltsAndNothingBehindItIsPublished(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		w := newWhole(t, pgtest.Migrated(t))
		w.delivery = delivery
		r := w.start(t)
		r.await(t, relay.StateStreaming)
		w.insertRange(t, 1, 10)
		w.wantAll(t, 10)
		w.exec(t, "insert into outbox_events (id, aggregate_id, event_type) values (gen_random_uuid(), 'k', 'nowhere')")
		r.await(t, relay.StateHalted)
		w.insertRange(t, 11, 12)
		err := r.stop()
		var halt *relay.HaltError
		if !errors.As(err, &halt) || halt.Cause != relay.TopicMissing || halt.From == 0 {
			t.Errorf("Run = %v, want a halt of cause topic_missing with its LSN", err)
		}
		if again := w.wantAll(t, 10).repeats(); again != 0 {
			t.Errorf("topic holds %d records, want the 10 before the halt", 10+again)
		}
	})
}

// BenchmarkBacklog relays events that were committed before, 427 bytes of payload each in a transaction of its own, from PostgreSQL into kfake.
func BenchmarkBacklog(b *testing.B) {
	const events = 20_000
	for b.Loop() {
		b.StopTimer()
		w := newWhole(b, pgtest.Migrated(b))
		w.delivery = relay.AtLeastOnce
		if err := w.start(b).stopWhenStreaming(b); err != nil {
			b.Fatal(err)
		}
		w.exec(b, `do $$ begin for n in 1..20000 loop
			insert into outbox_events (id, aggregate_type, aggregate_id, event_type, payload)
			values (gen_random_uuid(), 'user', (n % 1000)::text, 'things', to_json(repeat('x', 425))); commit; end loop; end $$`)
		end := w.currentLSN(b)
		b.StartTimer()
		r := w.start(b)
		eventually(b, "the backlog to be confirmed", func() bool { return w.confirmed(b) >= end })
		b.StopTimer()
		if err := r.stop(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "events/s")
}

func (r *running) stopWhenStreaming(t testing.TB) error {
	r.await(t, relay.StateStreaming)
	return r.stop()
}
