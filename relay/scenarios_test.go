package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// inserts inserts an event of the key k, which has one partition and so one order.
func inserts(payload string) string {
	return fmt.Sprintf("insert into outbox_events (id, aggregate_id, event_type, payload) values (gen_random_uuid(), 'k', 'things', '%s');", payload)
}

// wantPayloads waits until the topic holds the payloads of the key k, and checks that they came in this order and no more often than this.
func (w *whole) wantPayloads(t *testing.T, want ...string) {
	t.Helper()
	got := []string{}
	for _, rec := range w.broker.Records(t, "things", len(want), patience) {
		got = append(got, string(rec.Value))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("payloads (-want +got):\n%s", diff)
	}
	if n := len(w.published(t)); n != len(want) {
		t.Errorf("topic holds %d records, want %d", n, len(want))
	}
}

func (w *whole) begin(t *testing.T, sql string) pgx.Tx {
	t.Helper()
	tx, err := w.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), sql)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func commitTx(t *testing.T, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The rows of the transactions that commit last lie in the log before others that were confirmed long ago.
func TestTransactionsWithARestartBetweenTheirCommitsComeOnceInCommitOrder(t *testing.T) {
	t.Parallel()
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		f := newFailover(t) // alone on its server: a slot is not made while transactions are open
		f.delivery = delivery
		r := f.start(t)
		r.await(t, relay.StateStreaming)
		restart := func() {
			t.Helper()
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			r = f.start(t)
			r.await(t, relay.StateStreaming)
		}
		slow := f.begin(t, inserts("5")+inserts("6"))
		slower := f.begin(t, inserts("8"))
		f.exec(t, "begin;"+inserts("10")+"prepare transaction 'walpost_test'")
		want := []string{"1", "2"}
		f.exec(t, "begin;"+inserts("1")+inserts("2")+"commit")
		f.wantPayloads(t, want...)
		restart()
		f.exec(t, inserts("3")+inserts("4"))
		want = append(want, "3", "4")
		f.wantPayloads(t, want...)
		commitTx(t, slow)
		restart()
		want = append(want, "5", "6")
		f.wantPayloads(t, want...)
		f.exec(t, inserts("7"))
		commitTx(t, slower)
		f.exec(t, inserts("9"))
		want = append(want, "7", "8", "9")
		f.wantPayloads(t, want...)
		if delivery == relay.ExactlyOnce { // the other publishes again what the server has forgotten
			f.srv.Kill9(t)
			f.srv.Start(t)
			f.Reset()
		}
		restart()
		f.exec(t, "commit prepared 'walpost_test'")
		f.wantPayloads(t, append(want, "10")...)
	})
}

func TestARelayThatIsTerminatedWithAFullBatchInFlightRepeatsNothing(t *testing.T) {
	t.Parallel()
	const total, batch = 2000, 500
	inEach(t, func(t *testing.T, delivery relay.Delivery) {
		w := newWhole(t, pgtest.Migrated(t))
		w.delivery = delivery
		starts := func() *running {
			return w.startFrom(t, w.pgSource(t, func(c *pgwal.Config) { c.BatchEvents = batch }))
		}
		if err := starts().stopWhenStreaming(t); err != nil {
			t.Fatal(err)
		}
		w.insertRange(t, 1, total)
		arrived, release := make(chan int, 1), make(chan struct{})
		w.broker.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
			w.broker.DropControl()
			arrived <- len(req.(*kmsg.ProduceRequest).Topics)
			w.broker.SleepControl(func() { <-release })
			return nil, nil, false
		})
		r := starts()
		<-arrived // the first batch is on its way, and what lies behind it fills the queue
		r.cancel()
		close(release)
		if err := r.stop(); err != nil {
			t.Fatalf("Run = %v, want nil", err)
		}
		finished := len(w.published(t))
		if finished == 0 || finished == total {
			t.Fatalf("%d of %d events were published when the relay had stopped, want the batch in flight and not all", finished, total)
		}
		starts()
		w.wantAll(t, total)
		if got := w.published(t); len(got) != total {
			t.Errorf("topic holds %d records, want %d: %d were in flight", len(got), total, finished)
		}
	})
}

func TestTheConfirmedPositionKeepsUpUnderSteadyLoad(t *testing.T) {
	t.Parallel()
	const lasts, limit = 4 * time.Second, 2 * time.Second // on a machine that has better to do, too
	w := newWhole(t, pgtest.Migrated(t))
	w.start(t).await(t, relay.StateStreaming)
	type written struct {
		at  time.Time
		lsn relay.LSN
	}
	var mu sync.Mutex // guards log
	var log []written
	var wrote sync.WaitGroup
	done := make(chan struct{}) // closed when all is written
	wrote.Go(func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); time.Since(began) < lasts; <-tick.C {
			w.exec(t, insert("k"))
			lsn := w.currentLSN(t)
			mu.Lock()
			log = append(log, written{time.Now(), lsn})
			mu.Unlock()
		}
	})
	steps := map[relay.LSN]bool{}
	var worst time.Duration
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		case <-time.After(20 * time.Millisecond):
		}
		now := time.Now()
		confirmed := w.confirmed(t)
		steps[confirmed] = true
		mu.Lock()
		if i := slices.IndexFunc(log, func(e written) bool { return e.lsn > confirmed }); i >= 0 {
			worst = max(worst, now.Sub(log[i].at))
		}
		mu.Unlock()
	}
	wrote.Wait()
	if worst > limit || len(steps) < 20 {
		t.Errorf("the slot was up to %v behind and stood at %d positions in %v, want at most %v and at least 20", worst, len(steps), lasts, limit)
	}
	t.Logf("%d transactions: the slot was at most %v behind, at %d positions", len(log), worst, len(steps))
}

func TestASlotThatIsMovedBackByHandDoublesNothing(t *testing.T) {
	t.Parallel()
	w := newWhole(t, pgtest.Migrated(t))
	seen := &skips{}
	starts := func() *running { return w.startFrom(t, &observed{Source: w.pgSource(t, nil), skips: seen}) }
	if err := starts().stopWhenStreaming(t); err != nil {
		t.Fatal(err)
	}
	old := pgtest.SlotName(t)
	eventually(t, "a copy of the slot", func() bool {
		_, err := w.Exec(t.Context(), "select pg_copy_logical_replication_slot($1, $2)", w.slot, old)
		return err == nil
	})
	r := starts()
	r.await(t, relay.StateStreaming)
	w.insertRange(t, 1, 50)
	w.committedOnce(t, 50)
	end := w.currentLSN(t)
	eventually(t, "the slot behind the events", func() bool { return w.confirmed(t) >= end })
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.dropSlot(t)
	w.exec(t, "select pg_copy_logical_replication_slot($1, $2)", old, w.slot)
	if now := w.confirmed(t); now >= end {
		t.Fatalf("slot stands at %s, want it back before %s", now, end)
	}
	starts().await(t, relay.StateStreaming)
	w.insertRange(t, 51, 60)
	w.committedOnce(t, 60)
	if n, again := len(w.published(t)), seen.again.Load(); n != 60 || again != 50 {
		t.Errorf("topic holds %d records and %d events were sent again, want 60 and 50", n, again)
	}
}

// A row that fills Kafka's batches alone, between others.
func TestAMegabyteRowAndSmallOnesBehindItArriveOnceInOrder(t *testing.T) {
	t.Parallel()
	w := newWhole(t, pgtest.Migrated(t))
	w.exec(t, "alter table outbox_events drop constraint outbox_events_payload_size")
	limit := "2000000"
	if _, err := kadm.NewClient(w.broker.Client(t)).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &limit}}, "things"); err != nil {
		t.Fatal(err)
	}
	w.start(t).await(t, relay.StateStreaming)
	big := `"` + strings.Repeat("0123456789abcdef", 1<<16) + `"`
	w.exec(t, inserts("1")+inserts(big)+inserts("3")+inserts("4"))
	w.exec(t, inserts("5"))
	w.exec(t, inserts(big))
	w.exec(t, inserts("7"))
	w.wantPayloads(t, "1", big, "3", "4", "5", big, "7")
}
