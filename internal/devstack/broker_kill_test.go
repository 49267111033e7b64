package devstack_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestDoomedBroker is not a test: it is the process that startDoomed starts. It runs a broker until it is killed, and tells its address.
func TestDoomedBroker(t *testing.T) {
	dir := os.Getenv("WALPOST_TEST_BROKER")
	if dir == "" {
		return
	}
	broker := startBroker(t, dir)
	if err := broker.CreateTopic(topic, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stdout.WriteString(broker.Addr() + "\n"); err != nil {
		t.Fatal(err)
	}
	select {}
}

// startDoomed starts a broker in a process of its own, to be killed.
func startDoomed(t *testing.T, dir string) (addr string, kill func()) {
	t.Helper()
	doomed := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDoomedBroker$")
	doomed.Env = append(os.Environ(), "WALPOST_TEST_BROKER="+dir)
	out, err := doomed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := doomed.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 64)
	n, err := out.Read(said)
	if err != nil {
		t.Fatalf("the broker's process said nothing: %v", err)
	}
	return strings.TrimSpace(string(said[:n])), func() {
		t.Helper()
		if err := doomed.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = doomed.Wait() // killed
	}
}

func TestAKilledBrokerLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	addr, kill := startDoomed(t, dir)
	want := make([]string, 500)
	for i := range want {
		want[i] = fmt.Sprintf("record %d", i)
	}
	produce(t, addr, want...)
	kill()
	if diff := cmp.Diff(want, consume(t, startBroker(t, dir).Addr(), len(want))); diff != "" {
		t.Errorf("records after kill -9 (-want +got):\n%s", diff)
	}
}

// A transaction that was open when the broker was killed stays aborted, however often it is killed, and consumers see where it ends.
func TestAKilledBrokerAbortsWhatWasOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	begin := func(addr, value string) *kgo.Client {
		t.Helper()
		c := client(t, addr, kgo.TransactionalID("relay"))
		if err := c.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := c.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("key"), Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	commit := func(c *kgo.Client) {
		t.Helper()
		if err := c.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
	}
	addr, kill := startDoomed(t, dir)
	commit(begin(addr, "committed"))
	begin(addr, "open")
	kill()
	addr, kill = startDoomed(t, dir)
	if diff := cmp.Diff([]string{"committed"}, consumeToEnd(t, addr)); diff != "" {
		t.Errorf("committed records after kill -9 (-want +got):\n%s", diff)
	}
	commit(begin(addr, "committed later"))
	kill()
	if diff := cmp.Diff([]string{"committed", "committed later"}, consumeToEnd(t, startBroker(t, dir).Addr())); diff != "" {
		t.Errorf("committed records after another kill -9 (-want +got):\n%s", diff)
	}
}

// consumeToEnd is what a consumer of committed records sees of the topic until it is at its end.
func consumeToEnd(t *testing.T, addr string) (values []string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Second, fmt.Errorf("topic %s was not read to its end within 20 s", topic))
	defer cancel()
	c := client(t, addr, kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	for len(left) > 0 {
		c.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
		if ctx.Err() != nil {
			t.Fatal(context.Cause(ctx))
		}
	}
	return values
}
