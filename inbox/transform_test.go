package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/record"
)

func TestEveryMessageIsTransformedOnceAndInOrder(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 3000)
	x := f.start(nil)
	f.awaitEnd()
	f.publish(3000, 100)
	f.awaitEnd()
	if err := x.it.Ready(); err != nil {
		t.Errorf("Ready = %v, want nil", err)
	}
	x.mustStop()
	if err := x.it.Ready(); err == nil {
		t.Error("Ready after the end = nil, want an error")
	}
	f.mustHaveOnce(3100)
	if x.seen.in != 3100 || x.seen.out != 3100 || x.seen.failed != 0 {
		t.Errorf("observed %d in, %d out, %d failures, want 3100, 3100, 0", x.seen.in, x.seen.out, x.seen.failed)
	}
	if err := x.it.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "was called before") {
		t.Errorf("a second Run = %v, want a refusal", err)
	}
}

func TestAFunctionMayDropAndMultiply(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 10)
	x := f.start(func(c *inbox.TransformConfig) {
		c.Transform = func(_ context.Context, m *inbox.Message) ([]record.Record, error) {
			var made []record.Record
			for i := range m.Offset % 3 {
				made = append(made, record.Record{Topic: outA, Key: []byte("one"), Value: fmt.Appendf(nil, "%s.%d", m.Record.Value, i)})
			}
			return made, nil
		}
	})
	f.awaitEnd()
	f.produce(&kgo.Record{Topic: raw, Partition: 0, Key: []byte("k0"), Value: nil})
	x.mustStop()
	for _, r := range f.read(outA) {
		if r.Headers != nil || string(r.Key) != "one" {
			t.Errorf("record %q has headers %v and key %q, want none and one", r.Value, r.Headers, r.Key)
		}
	}
}

// A transaction of offsets alone must be committed too.
func TestMessagesOfWhichNothingIsMadeArePassed(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 50)
	drop := func(c *inbox.TransformConfig) {
		c.Transform = func(context.Context, *inbox.Message) ([]record.Record, error) { return nil, nil }
	}
	x := f.start(drop)
	f.awaitEnd()
	x.mustStop()
	second := f.start(nil)
	await(t, "the second to join", func() bool { return second.it.Ready() == nil })
	f.publish(50, 1)
	f.awaitEnd()
	second.mustStop()
	if second.seen.in != 1 {
		t.Errorf("the second transformer read %d messages, want 1", second.seen.in)
	}
}

// O5: offsets of control records, and of what was aborted.
func TestMarkersAndAbortedMessagesAreNotTransformed(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	source := f.kafka.Client(t, kgo.TransactionalID("source"), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	for i, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := source.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for key := range 10 {
			value := fmt.Sprintf("%06d", 10*(i/2)+key)
			if end == kgo.TryAbort {
				value = "aborted"
			}
			if err := source.ProduceSync(t.Context(), message(fmt.Sprint("k", key), value)).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := source.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	x := f.start(nil)
	f.awaitEnd() // hence behind the last marker
	x.mustStop()
	f.mustHaveOnce(20)
}

// Left to itself the client goes back to offset 0 after an abort of the first batch.
func TestAnAbortOfTheFirstBatchGoesBackToTheBeginningOfTheLog(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 300)
	ends, err := f.admin.ListEndOffsets(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.admin.DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	f.publish(300, 100)
	f.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: outB, Err: kerr.TopicAuthorizationFailed, Count: 3})
	x := f.start(nil)
	f.awaitEnd()
	x.mustStop()
	if x.seen.failed == 0 {
		t.Error("no batch failed; what is this test about?")
	}
	if n := len(f.read(outA)) + len(f.read(outB)); n != 100 {
		t.Errorf("%d records, want 100", n)
	}
}

// One failed produce vetoes the whole transaction: neither another topic's records nor an offset is seen.
func TestAFailedRecordVetoesItsTransaction(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 100)
	fault := f.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: outB, Err: kerr.TopicAuthorizationFailed, Count: -1})
	x := f.start(nil)
	await(t, "failures", func() bool { return x.seen.get(failures) >= 12 }) // by now each batch is a message
	if err := x.it.Ready(); err == nil || !strings.Contains(err.Error(), "may not be written to") {
		t.Errorf("Ready = %v, want the failure", err)
	}
	for number, at := range f.committed() {
		for _, r := range f.read(raw) {
			if r.Partition == number && r.Offset < at && r.Value[5]%2 == 0 {
				t.Errorf("offset %d of partition %d is committed, the message at %d of which nothing was published is below it", at, number, r.Offset)
			}
		}
	}
	fault.Remove()
	f.awaitEnd()
	await(t, "ready again", func() bool { return x.it.Ready() == nil })
	x.mustStop()
	f.mustHaveOnce(100)
}

func TestAPermanentErrorBuriesTheMessageInTheSameTransaction(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 100)
	fault := f.kafka.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: deadLetters, Err: kerr.TopicAuthorizationFailed, Count: -1})
	x := f.start(func(c *inbox.TransformConfig) {
		c.Transform = func(ctx context.Context, m *inbox.Message) ([]record.Record, error) {
			if string(m.Record.Value) == "000042" {
				return nil, inbox.Permanent(errors.New("no meaning"), "test")
			}
			return route(ctx, m)
		}
	})
	await(t, "failures", func() bool { return x.seen.get(failures) >= 12 })
	original := func() *kgo.Record {
		for _, r := range f.read(raw) {
			if string(r.Value) == "000042" {
				return r
			}
		}
		panic("it was published")
	}()
	if at := f.committed()[original.Partition]; at > original.Offset {
		t.Errorf("offset %d is committed, and the dead letter of %d is not acknowledged", at, original.Offset)
	}
	fault.Remove()
	f.awaitEnd()
	x.mustStop()
	letters := f.read(deadLetters)
	if len(letters) != 1 {
		t.Fatalf("%d dead letters, want 1", len(letters))
	}
	got := headers(letters[0])
	for key, want := range map[string]string{
		"__dlq.errors.topic": raw, "__dlq.errors.partition": fmt.Sprint(original.Partition), "__dlq.errors.offset": fmt.Sprint(original.Offset),
		"__dlq.errors.group": forwarders, "__dlq.errors.message": "no meaning", "x-dlq-code": "test", "x-dlq-class": "permanent",
	} {
		if got[key] != want {
			t.Errorf("header %s = %q, want %q", key, got[key], want)
		}
	}
	if l := letters[0]; string(l.Value) != "000042" || string(l.Key) != "k2" || l.Partition != original.Partition {
		t.Errorf("dead letter %s=%s in partition %d, want the original's", l.Key, l.Value, l.Partition)
	}
	if n := len(f.read(outA)) + len(f.read(outB)); n != 99 || x.seen.dead != 1 {
		t.Errorf("%d records and %d dead letters observed, want 99 and 1", n, x.seen.dead)
	}
}

func TestAnyOtherErrorMakesEverythingBehindItWait(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]func() ([]record.Record, error){
		"an error": func() ([]record.Record, error) { return nil, errors.New("not yet") },
		"a panic":  func() ([]record.Record, error) { panic("not yet") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFlow(t)
			for i := range 20 { // of one key, hence one partition
				f.produce(message("k", fmt.Sprintf("%06d", i)))
			}
			release := make(chan struct{})
			x := f.start(func(c *inbox.TransformConfig) {
				c.Transform = func(ctx context.Context, m *inbox.Message) ([]record.Record, error) {
					select {
					case <-release:
					default:
						if string(m.Record.Value) == "000007" {
							return fails()
						}
					}
					return route(ctx, m)
				}
			})
			await(t, "what stands before it", func() bool { return x.seen.get(published) == 7 })
			await(t, "failures", func() bool { return x.seen.get(failures) >= 5 })
			if err := x.it.Ready(); err == nil || !strings.Contains(err.Error(), "offset 7: ") || !strings.Contains(err.Error(), "not yet") {
				t.Errorf("Ready = %v, want the message that everything waits for", err)
			}
			close(release)
			f.awaitEnd()
			x.mustStop()
			f.mustHaveOnce(20)
			if n := len(f.read(deadLetters)); n != 0 {
				t.Errorf("%d dead letters, want none", n)
			}
		})
	}
}

func TestASlowFunctionGetsThrough(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 400)
	x := f.start(func(c *inbox.TransformConfig) {
		c.TransactionTimeout = time.Second
		c.Batch = 200
		c.Transform = func(ctx context.Context, m *inbox.Message) ([]record.Record, error) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(15 * time.Millisecond): // a batch takes three times what a transaction may
			}
			return route(ctx, m)
		}
	})
	f.awaitEnd()
	x.mustStop()
	f.mustHaveOnce(400)
	if x.seen.committed < 3 || x.seen.failed > 0 {
		t.Errorf("%d transactions and %d failures, want the batches to shrink before one fails", x.seen.committed, x.seen.failed)
	}
}

func TestAGroupWhoseOffsetIsGoneStopsAndSaysSo(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 100)
	first := f.start(nil)
	f.awaitEnd()
	first.mustStop()
	f.publish(100, 100)
	ends, err := f.admin.ListEndOffsets(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.admin.DeleteRecords(t.Context(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	second := f.start(nil)
	if err := second.wait(); !errors.Is(err, kerr.OffsetOutOfRange) || !strings.Contains(err.Error(), "retention passed it") {
		t.Errorf("Run = %v, want an error that says what happened to the offset", err)
	}
}

func TestTheLagIsReportedAndGoesToZero(t *testing.T) {
	t.Parallel()
	f := newFlow(t)
	f.publish(0, 100)
	x := f.start(nil)
	await(t, "a lag of zero in every partition", func() bool {
		x.seen.mu.Lock()
		defer x.seen.mu.Unlock()
		for _, l := range x.seen.lag {
			if l.Records != 0 || l.Topic != raw {
				return false
			}
		}
		return len(x.seen.lag) == rawTopics && x.seen.out == 100
	})
	x.mustStop()
}
