package pgwal

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

const outboxOID = 16400

// feed is an assembler with its queue and no connection.
type feed struct {
	*assembler
	t     testing.TB
	total atomic.Int64
}

// reconnected is a feed of the same Source on its next connection.
func (f *feed) reconnected() *feed {
	again := newFeed(f.t, nil)
	again.layouts = f.layouts
	return again
}

func newFeed(t testing.TB, change func(*Config)) *feed {
	cfg := Config{URL: "postgres://localhost/x"}
	if change != nil {
		change(&cfg)
	}
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		t.Fatal(err)
	}
	f := &feed{t: t}
	f.assembler = newAssembler(cfg, target{oid: outboxOID, schema: "public", name: "outbox_events"}, newQueue(cfg, &f.total), make(layouts))
	return f
}

// send feeds messages until one is refused.
func (f *feed) send(messages ...[]byte) error {
	for _, m := range messages {
		if err := f.data(m, 0); err != nil {
			return err
		}
	}
	return nil
}

func (f *feed) must(messages ...[]byte) {
	f.t.Helper()
	if err := f.send(messages...); err != nil {
		f.t.Fatalf("data = %v, want no error", err)
	}
}

// describe is the Relation message of the outbox.
func outboxRelation() []byte {
	return relationMessage(outboxOID, "public", "outbox_events", outboxColumns()...)
}

func outboxRow(id, key string) []byte {
	return insertMessage(outboxOID, id, "thing", key, "things", "{}", "NULL", "NULL")
}

// queued is what next would hand out, as id lists with their end.
func (f *feed) batches() []string {
	f.t.Helper()
	out := []string{}
	for {
		b, ok, err := f.queue.tryNext()
		if err != nil {
			return append(out, err.Error())
		}
		if !ok {
			return out
		}
		ids := []string{}
		for _, e := range b.events {
			ids = append(ids, fmt.Sprintf("%s@%s", e.ID(), e.Position))
		}
		out = append(out, strings.Join(ids, " ")+" end "+b.end.String())
	}
}

func TestTransactionsBecomeBatches(t *testing.T) {
	t.Parallel()
	small := func(c *Config) { c.BatchEvents = 3 }
	for name, tc := range map[string]struct {
		change   func(*Config)
		messages [][]byte
		after    func(*feed)
		want     []string
	}{
		"small ones are joined": {
			messages: [][]byte{
				beginMessage(10), outboxRelation(), outboxRow("a", "k"), commitMessage(10, 18),
				beginMessage(20), outboxRow("b", "k"), outboxRow("c", "k"), commitMessage(20, 28),
			},
			want: []string{"a@0/A#0 b@0/14#0 c@0/14#1 end 0/1C"},
		},
		"a batch ends between transactions": {
			change: small,
			messages: [][]byte{
				beginMessage(10), outboxRelation(), outboxRow("a", "k"), outboxRow("b", "k"), commitMessage(10, 18),
				beginMessage(20), outboxRow("c", "k"), outboxRow("d", "k"), commitMessage(20, 28),
			},
			want: []string{"a@0/A#0 b@0/A#1 end 0/12", "c@0/14#0 d@0/14#1 end 0/1C"},
		},
		"a transaction larger than a batch is split": {
			change: small,
			messages: [][]byte{
				beginMessage(10), outboxRelation(), outboxRow("a", "k"), outboxRow("b", "k"), outboxRow("c", "k"), outboxRow("d", "k"), commitMessage(10, 18),
			},
			want: []string{"a@0/A#0 b@0/A#1 c@0/A#2 end 0/0", "d@0/A#3 end 0/12"},
		},
		"a split transaction behind one without events": {
			change:   small,
			messages: [][]byte{beginMessage(10), commitMessage(10, 18), beginMessage(20), outboxRelation(), outboxRow("a", "k"), outboxRow("b", "k"), outboxRow("c", "k")},
			want:     []string{" end 0/12", "a@0/14#0 b@0/14#1 c@0/14#2 end 0/0"},
		},
		"a split transaction that ends with its part": {
			change:   small,
			messages: [][]byte{beginMessage(10), outboxRelation(), outboxRow("a", "k"), outboxRow("b", "k"), outboxRow("c", "k"), commitMessage(10, 18)},
			want:     []string{"a@0/A#0 b@0/A#1 c@0/A#2 end 0/12"},
		},
		"a transaction without events moves the position": {
			messages: [][]byte{beginMessage(10), relationMessage(99, "public", "other"), insertMessage(99, "x"), commitMessage(10, 18)},
			want:     []string{" end 0/12"},
		},
		"the same after events moves their end": {
			messages: [][]byte{
				beginMessage(10), outboxRelation(), outboxRow("a", "k"), commitMessage(10, 18), beginMessage(20), commitMessage(20, 28),
			},
			want: []string{"a@0/A#0 end 0/1C"},
		},
		"a keepalive between transactions moves the position": {
			messages: [][]byte{beginMessage(10), outboxRelation(), outboxRow("a", "k"), commitMessage(10, 18)},
			after:    func(f *feed) { f.keepalive(keepalive{end: 90}) },
			want:     []string{"a@0/A#0 end 0/5A"},
		},
		"a keepalive inside a transaction does not": {
			messages: [][]byte{beginMessage(10), outboxRelation(), outboxRow("a", "k")},
			after:    func(f *feed) { f.keepalive(keepalive{end: 90}) },
			want:     []string{},
		},
		"a keepalive of the past does not": {
			messages: [][]byte{beginMessage(10), outboxRelation(), outboxRow("a", "k"), commitMessage(10, 18)},
			after:    func(f *feed) { f.keepalive(keepalive{end: 17}) },
			want:     []string{"a@0/A#0 end 0/12"},
		},
		"what concerns no outbox is passed over": {
			messages: [][]byte{
				beginMessage(10), {kindOrigin, 1}, {kindType, 2}, outboxRelation(), outboxRow("a", "k"), {kindUpdate}, {kindDelete}, {kindTruncate}, {kindMessage}, commitMessage(10, 18),
			},
			want: []string{"a@0/A#0 end 0/12"},
		},
		"a table of the same name counts, and a renamed one": {
			messages: [][]byte{
				beginMessage(10), relationMessage(7, "public", "outbox_events", outboxColumns()...), relationMessage(outboxOID, "old", "events", outboxColumns()...),
				insertMessage(7, "a", "t", "k", "things", "{}", "NULL", "NULL"), outboxRow("b", "k"), commitMessage(10, 18),
			},
			want: []string{"a@0/A#0 b@0/A#1 end 0/12"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFeed(t, tc.change)
			f.must(tc.messages...)
			if tc.after != nil {
				tc.after(f)
			}
			if diff := cmp.Diff(tc.want, f.batches()); diff != "" {
				t.Errorf("batches (-want +got):\n%s", diff)
			}
		})
	}
}

func TestABrokenStreamIsRefused(t *testing.T) {
	t.Parallel()
	for name, messages := range map[string][][]byte{
		"a transaction in a transaction":      {beginMessage(10), beginMessage(20)},
		"a commit without a begin":            {commitMessage(10, 18)},
		"a commit of another transaction":     {beginMessage(10), commitMessage(20, 28)},
		"a commit that ends before it begins": {beginMessage(10), commitMessage(10, 10)},
		"a row of a table unheard of":         {beginMessage(10), outboxRow("a", "k")},
		"a row outside a transaction":         {outboxRelation(), outboxRow("a", "k")},
		"a streamed transaction":              {{kindStreamStart}},
		"the end of a streamed part":          {{kindStreamStop}},
		"the commit of a streamed one":        {{kindStreamCommit}},
		"the abort of a streamed one":         {{kindStreamAbort}},
		"an unknown message":                  {{'?'}},
		"a row cut short":                     {beginMessage(10), outboxRelation(), outboxRow("a", "k")[:30]},
	} {
		err := newFeed(t, nil).send(messages...)
		var halt *relay.HaltError
		if err == nil || errors.As(err, &halt) {
			t.Errorf("data of %s = %v, want an error that is no halt", name, err)
		}
	}
}

func TestTablesAndRowsThatCannotServeHalt(t *testing.T) {
	t.Parallel()
	without := func(i int) []record.Column { return append(outboxColumns()[:i:i], outboxColumns()[i+1:]...) }
	retyped := outboxColumns()
	retyped[4].TypeOID = 3802
	for name, tc := range map[string]struct {
		messages [][]byte
		want     relay.Cause
		says     string
	}{
		"a column that is missing": {
			messages: [][]byte{beginMessage(20), relationMessage(outboxOID, "public", "outbox_events", without(2)...)},
			want:     relay.ColumnMissing, says: "aggregate_id",
		},
		"a column that has another type": {
			messages: [][]byte{beginMessage(20), relationMessage(outboxOID, "public", "outbox_events", retyped...)},
			want:     relay.ColumnMissing, says: "look different",
		},
		"a row without a topic": {
			messages: [][]byte{beginMessage(20), insertMessage(outboxOID, "bad", "thing", "k", "not a topic", "{}", "NULL", "NULL")},
			want:     relay.Unpublishable, says: "event bad",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFeed(t, nil)
			f.must(beginMessage(10), outboxRelation(), outboxRow("a", "k"), commitMessage(10, 18))
			err := f.send(tc.messages...)
			var halt *relay.HaltError
			if !errors.As(err, &halt) || halt.Cause != tc.want || halt.From != 20 || halt.Hint == "" || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("data = %v, want a halt of cause %v at 0/14 that says %q", err, tc.want, tc.says)
			}
			if diff := cmp.Diff([]string{"a@0/A#0 end 0/12"}, f.batches()); diff != "" {
				t.Errorf("batches (-want +got):\n%s", diff)
			}
		})
	}
}

func TestATypeThatChangesWithinATransactionIsNoTrap(t *testing.T) {
	t.Parallel()
	retyped := outboxColumns()
	retyped[4].TypeOID = 25
	f := newFeed(t, nil) // as after a restart at this transaction: nothing is settled before it
	f.must(beginMessage(10), outboxRelation(), outboxRow("a", "k"), relationMessage(outboxOID, "public", "outbox_events", retyped...), outboxRow("b", "k"), commitMessage(10, 18))
	if diff := cmp.Diff([]string{"a@0/A#0 b@0/A#1 end 0/12"}, f.batches()); diff != "" {
		t.Errorf("batches (-want +got):\n%s", diff)
	}
}

func TestAChangedTypeHaltsOnALaterConnectionToo(t *testing.T) {
	t.Parallel()
	retyped := outboxColumns()
	retyped[4].TypeOID = 25
	changed := relationMessage(outboxOID, "public", "outbox_events", retyped...)
	f := newFeed(t, nil)
	f.must(beginMessage(10), outboxRelation(), outboxRow("a", "k"), commitMessage(10, 18))
	for range 2 { // the halt itself settles nothing
		f = f.reconnected()
		err := f.send(beginMessage(20), changed, outboxRow("b", "k"), commitMessage(20, 28))
		var halt *relay.HaltError
		if !errors.As(err, &halt) || halt.Cause != relay.ColumnMissing || halt.From != 20 {
			t.Errorf("data of a changed column on a new connection = %v, want a halt of cause column_missing at 0/14", err)
		}
	}
	newFeed(t, nil).must(beginMessage(20), changed, outboxRow("b", "k"), commitMessage(20, 28)) // another process
}

func TestALogThatIsReadAgainMayHoldOlderColumns(t *testing.T) {
	t.Parallel()
	retyped := outboxColumns()
	retyped[4].TypeOID = 25
	changed := relationMessage(outboxOID, "public", "outbox_events", retyped...)
	f := newFeed(t, nil)
	first := [][]byte{beginMessage(10), outboxRelation(), outboxRow("a", "k"), changed, outboxRow("b", "k"), commitMessage(10, 18)}
	f.must(first...)
	f = f.reconnected()
	f.must(first...)
	f.must(beginMessage(20), outboxRow("c", "k"), commitMessage(20, 28))
	var halt *relay.HaltError
	if err := f.send(beginMessage(30), outboxRelation()); !errors.As(err, &halt) {
		t.Errorf("data of the older columns behind the newer = %v, want a halt", err)
	}
}

func TestRowsOutliveTheirFrames(t *testing.T) {
	t.Parallel()
	f := newFeed(t, nil)
	f.must(beginMessage(10), outboxRelation())
	for _, payload := range []string{"small", strings.Repeat("large", 20_000)} {
		row := insertMessage(outboxOID, "id", "thing", "k", "things", payload, "NULL", "NULL")
		f.must(row)
		clear(row) // as the next frame on the connection would
	}
	f.must(commitMessage(10, 18))
	b, err := f.queue.next(t.Context())
	if err != nil || string(b.events[0].Record.Value) != "small" || len(b.events[1].Record.Value) != 100_000 || b.events[1].Record.Value[0] != 'l' {
		t.Errorf("next = %v, want the values as they were sent", err)
	}
}

func FuzzStream(f *testing.F) {
	add := func(messages ...[]byte) {
		var all []byte
		for _, m := range messages {
			all = append(append(all, byte(len(m)>>8), byte(len(m))), m...)
		}
		f.Add(all)
	}
	add(recorded(f)...)
	add(beginMessage(10), commitMessage(10, 18), beginMessage(20), outboxRelation(), outboxRow("a", "k"), outboxRow("b", "k"), outboxRow("c", "k"))
	f.Fuzz(func(t *testing.T, src []byte) {
		f := newFeed(t, func(c *Config) { c.BatchEvents = 2 })
		last := relay.Position{}
		for len(src) > 2 {
			n := min(int(src[0])<<8|int(src[1]), len(src)-2)
			m := src[2 : 2+n]
			src = src[2+n:]
			if len(m) == 0 {
				f.keepalive(keepalive{end: relay.LSN(f.received.Load() + 1)})
			} else if f.data(m, 0) != nil {
				return
			}
			for {
				b, ok, err := f.queue.tryNext()
				if err != nil || !ok {
					break
				}
				if uint64(b.end) > f.received.Load() {
					t.Fatalf("batch ends at %s, above what was received", b.end)
				}
				if n := len(b.events); f.open && n > 0 && b.events[n-1].Position.Commit == f.commitLSN && b.end != 0 {
					t.Fatalf("batch ends at %s inside transaction %s", b.end, f.commitLSN)
				}
				for _, e := range b.events {
					if e.Position.Commit == last.Commit && e.Position.Index != last.Index+1 {
						t.Fatalf("event %s after %s", e.Position, last)
					}
					last = e.Position
				}
			}
		}
	})
}

// BenchmarkInsert is the way of a row from the frame to the queue: 427 bytes of payload, one row a transaction.
func BenchmarkInsert(b *testing.B) {
	f := newFeed(b, nil)
	f.must(beginMessage(1), outboxRelation(), commitMessage(1, 2))
	row := insertMessage(outboxOID, "0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001", "user", "42", "notif.user.registration", strings.Repeat("x", 427), "NULL", "NULL")
	begin, end := beginMessage(10), commitMessage(10, 18)
	n := 0
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if err := f.send(begin, row, end); err != nil {
			b.Fatal(err)
		}
		if n++; n%1000 == 0 {
			if _, err := f.queue.next(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkDecodeInsert(b *testing.B) {
	row := insertMessage(outboxOID, "0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001", "user", "42", "notif.user.registration", strings.Repeat("x", 427), "NULL", "NULL")[1:]
	var values [][]byte
	var err error
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if values, err = decodeInsert(row, values[:0]); err != nil {
			b.Fatal(err)
		}
	}
}
