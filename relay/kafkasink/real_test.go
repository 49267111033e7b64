package kafkasink_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/stacktest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
)

// realKafka starts a broker of the test's own, with the topic things.
func realKafka(t testing.TB) []string {
	t.Helper()
	b, err := kafka.Start(t.Context(), kafka.Config{Artifacts: stacktest.Artifacts(t), Dir: t.TempDir(), Addr: stacktest.Addr(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	brokers := []string{b.Addr()}
	createThings(t, brokers)
	return brokers
}

func admin(t testing.TB, brokers []string) *kadm.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return kadm.NewClient(client)
}

func createThings(t testing.TB, brokers []string) {
	t.Helper()
	if _, err := admin(t, brokers).CreateTopic(t.Context(), 3, 1, nil, "things"); err != nil {
		t.Fatal(err)
	}
}

// slotOf is a new slot of a subtest, and the same slot later on.
func slotOf(name string) (begin, later relay.Origin) {
	begin, later = fresh, used
	begin.Slot, later.Slot = name, name
	return begin, later
}

// TestOnRealKafka holds what kfake is too soft for: it ends transactions at once, and takes less care of who asks. The slots of its parts are their own,
// the topic is not, and so neither is the order of the parts.
func TestOnRealKafka(t *testing.T) {
	t.Parallel()
	brokers := realKafka(t)
	n := 0 // the last event
	var want []string
	next := func() relay.Event {
		n++
		return one(n)
	}
	put := func(t *testing.T, p *opened, times int) {
		t.Helper()
		for range times {
			ev := next()
			p.mustPut(t, ev)
			want = append(want, string(ev.Record.Value))
		}
	}
	t.Run("rule 4: the ring goes round and the watermark follows", func(t *testing.T) {
		begin, later := slotOf("round")
		began := time.Now()
		p := mustOpen(t, exactlyOnce(t, brokers), begin)
		first := time.Since(began)
		if got := p.Publisher.(relay.Keeper).Delivery(); got != relay.ExactlyOnce {
			t.Errorf("Delivery() = %v, want exactly once", got)
		}
		put(t, p, 5)
		began = time.Now()
		const times = 100
		put(t, p, times)
		each := time.Since(began) / times
		began = time.Now()
		if diff := cmp.Diff(markAt(n), mustOpen(t, exactlyOnce(t, brokers), later).mark); diff != "" {
			t.Errorf("watermark (-want +got):\n%s", diff)
		}
		wantCommitted(t, brokers, want...)
		fmt.Fprintf(os.Stdout, "counts: real Kafka: first open %v, later ones %v; %v a transaction of one event, back to back\n",
			first.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), each.Round(10*time.Microsecond))
	})
	for _, member := range []int{0, 1, 7, 15} {
		t.Run(fmt.Sprint("rule 3: a publisher that was replaced commits nothing, on member ", member), func(t *testing.T) {
			begin, later := slotOf(fmt.Sprint("zombie", member))
			older := mustOpen(t, exactlyOnce(t, brokers), begin) // uses member 0
			put(t, older, (member+15)%16)
			newer := mustOpen(t, exactlyOnce(t, brokers), later)
			if err := older.put(t, one(-1)); err == nil {
				t.Error("Publish of the older publisher = nil, want an error")
			}
			put(t, newer, 2)
			wantCommitted(t, brokers, want...)
		})
	}
	t.Run("rule 3: a publisher that was replaced before its commit commits nothing", func(t *testing.T) {
		begin, later := slotOf("late")
		w := &wire{key: kmsg.EndTxn, reached: make(chan struct{}), released: make(chan struct{})}
		p := mustOpen(t, exactlyOnce(t, brokers), begin)
		put(t, p, 1)
		older := mustOpen(t, exactlyOnce(t, brokers, w.options()...), later)
		done := make(chan error, 1)
		go func() { done <- older.put(t, one(-2)) }()
		<-w.reached // the event is in the log
		newer := mustOpen(t, exactlyOnce(t, brokers), later)
		put(t, newer, 1)
		close(w.released)
		if err := <-done; err == nil {
			t.Error("commit of the older publisher = nil, want an error")
		}
		put(t, newer, 1)
		wantCommitted(t, brokers, want...)
	})
	t.Run("rule 2: what was produced and not committed by a publisher that died is not seen", func(t *testing.T) {
		begin, later := slotOf("died")
		w := &wire{key: kmsg.EndTxn, reached: make(chan struct{}), released: make(chan struct{})}
		put(t, mustOpen(t, exactlyOnce(t, brokers), begin), 1)
		last := markAt(n)
		dying := mustOpen(t, exactlyOnce(t, brokers, w.options()...), later)
		done := make(chan error, 1)
		go func() { done <- dying.put(t, one(-3)) }()
		<-w.reached
		_ = dying.Close()
		close(w.released)
		if err := <-done; err == nil {
			t.Error("commit of the publisher that died = nil, want an error")
		}
		p := mustOpen(t, exactlyOnce(t, brokers), later)
		if diff := cmp.Diff(last, p.mark); diff != "" {
			t.Errorf("watermark (-want +got):\n%s", diff)
		}
		put(t, p, 1)
		wantCommitted(t, brokers, want...)
	})
	t.Run("rule 2: a commit whose answer was lost is in the watermark", func(t *testing.T) {
		begin, later := slotOf("lost")
		w := &wire{key: kmsg.EndTxn}
		p := mustOpen(t, exactlyOnce(t, brokers, w.options()...), begin)
		w.deaf.Store(true)
		ev := next()
		if err := p.put(t, ev); err == nil {
			t.Error("Publish whose commit was not answered = nil, want an error")
		}
		want = append(want, string(ev.Record.Value))
		if diff := cmp.Diff(markAt(n), mustOpen(t, exactlyOnce(t, brokers), later).mark); diff != "" {
			t.Errorf("watermark (-want +got):\n%s", diff)
		}
		wantCommitted(t, brokers, want...)
	})
	t.Run("a failed record vetoes the commit", func(t *testing.T) {
		begin, later := slotOf("veto")
		p := mustOpen(t, exactlyOnce(t, brokers), begin)
		put(t, p, 1)
		missing := next()
		missing.Record.Topic = "nowhere"
		err := p.put(t, next(), missing, next())
		var halt *relay.HaltError
		if !errors.As(err, &halt) || halt.Cause != relay.TopicMissing {
			t.Errorf("Publish with one event to a missing topic = %v, want a halt", err)
		}
		if got := mustOpen(t, exactlyOnce(t, brokers), later).mark; got.EventID == markAt(n).EventID {
			t.Errorf("watermark = %+v, want the one before the failed batch", got)
		}
		wantCommitted(t, brokers, want...)
	})
	t.Run("rule 9: what can never be published becomes a dead letter in the same transaction", func(t *testing.T) {
		policy := "compact"
		for topic, configs := range map[string]map[string]*string{graveyard: nil, "compacted": {"cleanup.policy": &policy}} {
			if _, err := admin(t, brokers).CreateTopic(t.Context(), 1, 1, configs, topic); err != nil {
				t.Fatal(err)
			}
		}
		sink := newSink(t, kafkasink.Config{Brokers: brokers, Delivery: relay.ExactlyOnce, DeadLetterTopic: graveyard})
		all := []relay.Event{next(), dead(n + 1), elsewhere(n + 2), one(n + 3), one(n + 4)}
		all[3].Record.Topic, all[3].Record.Key = "compacted", nil // which takes no record without a key
		all[4].Record.Value = []byte(strings.Repeat("x", 1_100_000))
		n += 4
		all = append(all, next())
		want = append(want, string(all[0].Record.Value), string(all[5].Record.Value))
		sessions, _ := untilPublished(t, sink, all)
		letters := committed(t, brokers, graveyard)
		if diff := cmp.Diff([]string{string(all[1].Record.Value), string(all[2].Record.Value), string(all[3].Record.Value), ""}, letters); diff != "" {
			t.Errorf("values of dead letters (-want +got):\n%s", diff)
		}
		wantCommitted(t, brokers, want...)
		fmt.Fprintf(os.Stdout, "counts: real Kafka: 4 dead letters of 4 causes between 2 events took %d sessions\n", sessions)
	})
	t.Run("a topic that was made again halts", func(t *testing.T) {
		begin, later := slotOf("shorter")
		p := mustOpen(t, exactlyOnce(t, brokers), begin)
		put(t, p, 2) // the second knows the offset of the first
		_ = p.Close()
		remake(t, brokers)
		_, err := openSink(t, exactlyOnce(t, brokers), later)
		var halt *relay.HaltError
		if !errors.As(err, &halt) || halt.Cause != relay.TopicTruncated {
			t.Errorf("Open = %v, want a halt", err)
		}
	})
}

// remake deletes the topic things and creates it again. It returns when the broker knows of the new one: a topic that is gone would be forgotten.
func remake(t testing.TB, brokers []string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("topic was not made again within %v", patience))
	defer cancel()
	adm := admin(t, brokers)
	if _, err := adm.DeleteTopic(ctx, "things"); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := adm.CreateTopic(ctx, 3, 1, nil, "things")
		if err == nil || errors.Is(err, kerr.TopicAlreadyExists) {
			if ends, err := adm.ListEndOffsets(ctx, "things"); err == nil && ends.Error() == nil && len(ends["things"]) == 3 && ends["things"][0].Offset == 0 {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
	}
}
