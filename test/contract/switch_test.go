package contract_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
	"github.com/walpost/walpost/relay/pgwal"
)

const (
	switchRate    = 500 // events a second
	switchWriters = 4
	switchPhase   = 1500 // events that each relay publishes before the next takes over

	// mostRepeats bounds what a switch may publish twice: what the old relay had published and not yet confirmed. Debezium confirms with Kafka
	// Connect's flush of offsets, each second on this worker; the rest is for a machine on which a second takes longer.
	mostRepeats = 5 * switchRate
)

// One slot, and the relays take turns at it while events go on coming: nothing is lost, and within a key the first of each keeps its place.
func TestSwitchingBetweenTheRelaysUnderLoadKeepsEveryEvent(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	url := pgtest.StartServer(t).Migrated(t)
	const topic = "switch.events"
	s.createTopics(t, topic)
	pool := pgtest.Pool(t, url)
	src := source{url: url, slot: createSlot(t, pool), table: "public.outbox_events", mapping: record.Mapping{Topic: "switch.${event_type}"}}
	client := s.client(t)
	load := startLoad(outbox{t, pool, "events"})
	reader := &switchReader{reader: s.reader(t, topic), ids: make(map[string]bool), places: make(map[string][]int)}

	connector := s.debezium(t, src)
	reader.until(switchPhase)
	var before, between, intoWalpost, intoDebezium int // repeats
	for i, deleted := range []bool{false, true} {
		before = reader.repeats
		leaveSlot(t, client, connector["name"], deleted)
		adoptSlot(t, s, src, []relay.Cause{relay.WatermarkUnusable, relay.SlotMoved}[i])
		t.Run(fmt.Sprint("walpost ", i), func(t *testing.T) { // the end of the subtest is the end of the relay
			runWalpost(t, s, src)
			reader.until((2*i + 2) * switchPhase)
		})
		between = reader.repeats
		takeSlot(t, client, src, connector, deleted)
		reader.until((2*i + 3) * switchPhase)
		intoWalpost, intoDebezium = max(intoWalpost, between-before), max(intoDebezium, reader.repeats-between)
	}
	written := load.stop()
	reader.until(written)
	// Whatever was to come besides has come before what is written now, once for each writer's partition.
	reader.until(written + load.last())
	intoDebezium = max(intoDebezium, reader.repeats-between)

	reader.check(t, written+switchWriters)
	for switched, repeats := range map[string]int{"from Debezium to walpost": intoWalpost, "from walpost to Debezium": intoDebezium} {
		if repeats > mostRepeats {
			t.Errorf("events published twice by the switch %s = %d, want at most %d", switched, repeats, mostRepeats)
		}
	}
	fmt.Fprintf(os.Stdout, "counts: switch, %d events at %d/s over Debezium, walpost, Debezium, walpost, Debezium made anew: 0 lost, "+
		"at most %d twice on the way into walpost, %d on the way back\n", written, switchRate, intoWalpost, intoDebezium)
}

// leaveSlot ends the connector's reading, and the connector itself when it is to be deleted.
func leaveSlot(t *testing.T, client *debezium.Client, name string, deleted bool) {
	t.Helper()
	if _, err := client.Stop(t.Context(), name); err != nil {
		t.Fatalf("Stop(%s) = %v, want no error", name, err)
	}
	if !deleted {
		return
	}
	if _, err := client.Delete(t.Context(), name); err != nil {
		t.Fatalf("Delete(%s) = %v, want no error", name, err)
	}
}

// takeSlot lets the connector go on, or one that is made anew. Walpost has moved the slot past the position that Kafka Connect remembers.
func takeSlot(t *testing.T, client *debezium.Client, src source, connector map[string]string, deleted bool) {
	t.Helper()
	if deleted {
		if _, err := client.Create(t.Context(), connector, 2*time.Minute); err != nil {
			t.Fatalf("Create(%s) = %v, want no error", connector["name"], err)
		}
	}
	slot, err := pgwal.ReadSlot(t.Context(), pgwal.Config{URL: src.url, Slot: src.slot})
	if err != nil {
		t.Fatal(err)
	}
	if adopted, err := client.Adopt(t.Context(), connector["name"], slot.Confirmed); !adopted || err != nil {
		t.Fatalf("Adopt(%s, %v) = %t, %v, want the slot's position taken over", connector["name"], slot.Confirmed, adopted, err)
	}
	if _, err := client.Apply(t.Context(), connector, 2*time.Minute); err != nil {
		t.Fatalf("Apply(%s) = %v, want it to run again", connector["name"], err)
	}
}

// adoptSlot wants walpost's relay to halt for the cause on a slot that Debezium has used, and then does what `walpost slot adopt` does, which the relay names.
func adoptSlot(t *testing.T, s *stack, src source, cause relay.Cause) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var halt *relay.HaltError
	err := newRelay(t, s, src, relay.ExactlyOnce).Run(ctx)
	if !errors.As(err, &halt) || halt.Cause != cause || !strings.Contains(halt.Hint, "walpost slot adopt --slot "+src.slot) {
		t.Fatalf("Run() after Debezium = %v, want a halt for %v that names `walpost slot adopt`", err, cause)
	}
	sink, err := kafkasink.New(kafkasink.Config{Brokers: []string{s.broker.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	err = pgwal.HoldSlot(ctx, pgwal.Config{URL: src.url, Slot: src.slot}, func(o relay.Origin) error {
		return sink.Adopt(ctx, o, relay.Watermark{Timeline: o.Timeline, End: o.Confirmed})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// debezium makes a connector of the source run and returns its configuration.
func (s *stack) debezium(t *testing.T, src source) map[string]string {
	t.Helper()
	cfg := debeziumOf(t, src)
	s.apply(t, cfg)
	config, err := cfg.Connector()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// load writes events at switchRate. Each writer has keys of its own and numbers the events of a key in the order of their commits.
type load struct {
	outbox  outbox
	ended   chan struct{}
	writers sync.WaitGroup
	written atomic.Int64
	failed  atomic.Pointer[error]
	next    [switchWriters]int
}

func startLoad(o outbox) *load {
	l := &load{outbox: o, ended: make(chan struct{})}
	for w := range switchWriters {
		l.writers.Go(func() {
			tick := time.NewTicker(time.Second * switchWriters / switchRate)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
				case <-l.ended:
					return
				}
				if err := l.write(w); err != nil {
					l.failed.Store(&err)
					return
				}
			}
		})
	}
	return l
}

func (l *load) write(w int) error {
	payload, key := fmt.Sprint(l.next[w]), fmt.Sprint("writer ", w)
	r := l.outbox.row(func(r *row) { r.aggregateID, r.payload = &key, &payload })
	if err := l.outbox.into(l.outbox.pool, "outbox_events", r).Scan(&r.id, &r.headers); err != nil {
		return err
	}
	l.next[w]++
	l.written.Add(1)
	return nil
}

// stop ends the writers and returns how many events they have written.
func (l *load) stop() int {
	l.outbox.t.Helper()
	close(l.ended)
	l.writers.Wait()
	if err := l.failed.Load(); err != nil {
		l.outbox.t.Fatalf("the load ended early: %v", *err)
	}
	return int(l.written.Load())
}

// last writes one more event for each key and returns their number.
func (l *load) last() int {
	l.outbox.t.Helper()
	for w := range switchWriters {
		if err := l.write(w); err != nil {
			l.outbox.t.Fatal(err)
		}
	}
	return switchWriters
}

// switchReader tells first copies from repeats.
type switchReader struct {
	*reader
	ids     map[string]bool
	places  map[string][]int // by key: the numbers of its events in the order of their first copies
	repeats int
}

// until reads until so many different events have come.
func (r *switchReader) until(events int) {
	r.t.Helper()
	const limit = 3 * time.Minute
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	for len(r.ids) < events {
		r.client.PollFetches(ctx).EachRecord(r.take)
		if ctx.Err() != nil {
			r.t.Fatalf("%d different events within %v, want %d", len(r.ids), limit, events)
		}
	}
}

func (r *switchReader) take(rec *kgo.Record) {
	id := string(rec.Headers[0].Value)
	if r.ids[id] {
		r.repeats++
		return
	}
	r.ids[id] = true
	var number int
	if _, err := fmt.Sscan(string(rec.Value), &number); err != nil {
		r.t.Errorf("event %s has the value %s, want a number", id, rec.Value)
	}
	r.places[string(rec.Key)] = append(r.places[string(rec.Key)], number)
}

// check holds what has come against what was written: each number of each key once, in order.
func (r *switchReader) check(t *testing.T, written int) {
	t.Helper()
	if len(r.ids) != written {
		t.Errorf("different events = %d, want %d", len(r.ids), written)
	}
	for key, numbers := range r.places {
		for i, n := range numbers {
			if n != i {
				t.Errorf("event %d of %s is number %d: lost, or out of order", i, key, n)
				break
			}
		}
	}
}
