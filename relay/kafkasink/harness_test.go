package kafkasink_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// deliveries are the ways to publish.
var deliveries = []relay.Delivery{relay.ExactlyOnce, relay.AtLeastOnce}

// inEach runs the test in both deliveries: for what they have in common.
func inEach(t *testing.T, test func(*testing.T, relay.Delivery)) {
	t.Helper()
	for _, delivery := range deliveries {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			test(t, delivery)
		})
	}
}

func event(n int, key, value string) relay.Event {
	return relay.Event{
		Position:    relay.Position{Commit: relay.LSN(100 + n), Index: 1},
		CommittedAt: time.Date(2026, 11, 23, 20, 0, 0, 0, time.UTC),
		Record: record.Record{
			Topic: "things", Key: []byte(key), Value: []byte(value),
			Headers: []record.Header{{Key: record.HeaderID, Value: fmt.Appendf(nil, "event-%d", n)}, {Key: record.HeaderTraceParent}},
		},
	}
}

func events(n int) []relay.Event {
	out := make([]relay.Event, n)
	for i := range out {
		out[i] = event(i, fmt.Sprint("key", i%10), fmt.Sprint(i))
	}
	return out
}

// cluster is a broker that has the topic things, with three partitions.
func cluster(t testing.TB, opts ...kfake.Opt) *kafkatest.Cluster {
	t.Helper()
	return kafkatest.Start(t, append([]kfake.Opt{kfake.SeedTopics(3, "things")}, opts...)...)
}

func newSink(t testing.TB, cfg kafkasink.Config) *kafkasink.Sink {
	t.Helper()
	sink, err := kafkasink.New(cfg)
	if err != nil {
		t.Fatalf("New = %v, want no error", err)
	}
	return sink
}

// open is a publisher for a slot that is new.
func open(t testing.TB, cfg kafkasink.Config) relay.Publisher {
	t.Helper()
	p := mustOpen(t, newSink(t, cfg), fresh)
	want := relay.Watermark{Timeline: fresh.Timeline, End: fresh.Confirmed}
	if cfg.Delivery == relay.AtLeastOnce {
		want = relay.Watermark{}
	}
	if p.mark != want {
		t.Fatalf("Open = watermark %+v, want %+v", p.mark, want)
	}
	return p.Publisher
}

// impatient lets a client try again at once, where a test has it fail several times.
func impatient() []kgo.Opt {
	return []kgo.Opt{kgo.MetadataMinAge(10 * time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 10 * time.Millisecond })}
}

// publish waits at most as long as a test may.
func publish(t testing.TB, p relay.Publisher, events []relay.Event) error {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("not published within %v", patience))
	defer cancel()
	err := p.Publish(ctx, events, markBehind(events))
	if ctx.Err() != nil {
		t.Fatal(context.Cause(ctx))
	}
	return err
}

// markBehind is the watermark behind events.
func markBehind(events []relay.Event) relay.Watermark {
	if len(events) == 0 {
		return relay.Watermark{Timeline: fresh.Timeline, End: fresh.Confirmed}
	}
	last := events[len(events)-1]
	return relay.Watermark{Timeline: fresh.Timeline, Position: last.Position, EventID: last.ID(), End: last.Position.Commit + 1}
}

// wantOnceInOrder checks that a consumer of committed records sees the events once, each key in the order of the events.
func wantOnceInOrder(t *testing.T, c *kafkatest.Cluster, all []relay.Event) {
	t.Helper()
	want, got := map[string][]string{}, map[string][]string{}
	for _, ev := range all {
		want[string(ev.Record.Key)] = append(want[string(ev.Record.Key)], string(ev.Record.Value))
	}
	for _, rec := range c.Records(t, "things", len(all), patience) {
		got[string(rec.Key)] = append(got[string(rec.Key)], string(rec.Value))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values by key (-want +got):\n%s", diff)
	}
	if n := len(committed(t, c.Brokers, "things")); n != len(all) {
		t.Errorf("topic holds %d records, want %d", n, len(all))
	}
}
