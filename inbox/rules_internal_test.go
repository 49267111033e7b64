package inbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/twmb/franz-go/pkg/kgo"
)

// D14: the multiplier is truncated, the attempt is off by one.
func TestTheDelayGrowsByFourAndStaysBelowItsLimit(t *testing.T) {
	t.Parallel()
	p := RetryPolicy{Attempts: 5, Min: 200 * time.Millisecond, Max: 30 * time.Second}
	for _, tc := range []struct {
		failed int
		jitter float64
		want   time.Duration
	}{
		{1, 0, 200 * time.Millisecond},
		{2, 0, 800 * time.Millisecond},
		{3, 0, 3200 * time.Millisecond},
		{4, 0, 12800 * time.Millisecond},
		{5, 0, 30 * time.Second},
		{1000, 0, 30 * time.Second},
		{1, 0.5, 220 * time.Millisecond},
		{5, 0.5, 33 * time.Second},
	} {
		if got := p.delay(tc.failed, tc.jitter); got != tc.want {
			t.Errorf("delay(%d, %v) = %v, want %v", tc.failed, tc.jitter, got, tc.want)
		}
	}
	odd := RetryPolicy{Min: 7 * time.Nanosecond, Max: time.Second}
	if got := odd.delay(3, 0); got != 112*time.Nanosecond {
		t.Errorf("delay(3, 0) = %v, want 112ns", got)
	}
}

func TestErrorsAreClassified(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return fmt.Errorf("insert: %w", &pgconn.PgError{Code: code}) }
	for _, tc := range []struct {
		name string
		err  error
		want class
		code string
	}{
		{"an unknown error", errors.New("x"), classTransient, "error"},
		{"a marked permanent error", fmt.Errorf("load: %w", Permanent(errors.New("x"), "unknown_user")), classPermanent, "unknown_user"},
		{"a marked transient error wins over its cause", Transient(pg("22001")), classTransient, "22001"},
		{"a permanent error wins over its cause", Permanent(pg("08006"), "gone"), classPermanent, "gone"},
		{"a marked systemic error wins over its cause", Systemic(pg("22001")), classSystemic, "22001"},
		{"a panic", &panicError{value: "x"}, classTransient, "panic"},
		{"a timeout", fmt.Errorf("call: %w", context.DeadlineExceeded), classTransient, "timeout"},
		{"serialization failure", pg("40001"), classConflict, "40001"},
		{"deadlock", pg("40P01"), classConflict, "40P01"},
		{"lock timeout", pg("55P03"), classConflict, "55P03"},
		{"connection failure", pg("08006"), classSystemic, "08006"},
		{"too many connections", pg("53300"), classSystemic, "53300"},
		{"shutdown", pg("57P01"), classSystemic, "57P01"},
		{"starting up", pg("57P03"), classSystemic, "57P03"},
		{"read-only", pg("25006"), classSystemic, "25006"},
		{"missing table", pg("42P01"), classSystemic, "42P01"},
		{"disk error", pg("58030"), classSystemic, "58030"},
		{"query cancelled", pg("57014"), classTransient, "57014"},
		{"data exception", pg("22001"), classPermanent, "22001"},
		{"not null", pg("23502"), classPermanent, "23502"},
		{"missing parent", pg("23503"), classTransient, "23503"},
		{"unique", pg("23505"), classPermanent, "23505"},
		{"check", pg("23514"), classPermanent, "23514"},
		{"connection refused", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, classSystemic, "error"},
		{"connection reset", &net.OpError{Op: "read", Err: syscall.ECONNRESET}, classTransient, "error"},
		{"unknown host", &net.DNSError{Err: "no such host"}, classSystemic, "error"},
	} {
		if got := classify(tc.err); got != tc.want {
			t.Errorf("%s: classify(%v) = %v, want %v", tc.name, tc.err, got, tc.want)
		}
		if got := code(tc.err); got != tc.code {
			t.Errorf("%s: code(%v) = %q, want %q", tc.name, tc.err, got, tc.code)
		}
		if got := IsPermanent(tc.err); got != (tc.want == classPermanent) {
			t.Errorf("%s: IsPermanent(%v) = %t", tc.name, tc.err, got)
		}
		if got := IsTransient(tc.err); got != (tc.want == classTransient) {
			t.Errorf("%s: IsTransient(%v) = %t", tc.name, tc.err, got)
		}
	}
	if Permanent(nil, "x") != nil || Transient(nil) != nil || Systemic(nil) != nil || IsPermanent(nil) || IsTransient(nil) {
		t.Error("a nil error was marked")
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	const id = "0198c5a0-0000-7000-8000-000000000001"
	rec := func(topic string, offset int64, ids ...string) *kgo.Record {
		r := &kgo.Record{Topic: topic, Offset: offset}
		for _, id := range ids {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: "id", Value: []byte(id)})
		}
		return r
	}
	for _, tc := range []struct {
		name  string
		rec   *kgo.Record
		id    string
		text  string
		named bool
	}{
		{"a UUID is itself", rec("t", 1, id), id, id, true},
		{"a UUID in capitals is the same", rec("t", 1, strings.ToUpper(id)), id, strings.ToUpper(id), true},
		{"the last of several counts", rec("t", 1, "x", id), id, id, true},
		{"another id is hashed with its topic", rec("t", 1, "order-17"), "35ef5249-1333-ca63-af8f-0b33c92a0864", "order-17", true},
	} {
		got, text, named := identify(tc.rec)
		if got.String() != tc.id || text != tc.text || named != tc.named {
			t.Errorf("%s: identify = %v, %q, %t, want %s, %q, %t", tc.name, got, text, named, tc.id, tc.text, tc.named)
		}
	}
	seen := map[string]bool{}
	for _, r := range []*kgo.Record{
		rec("t", 1, "order-17"), rec("u", 1, "order-17"), rec("t", 1, "order-18"), rec("t", 1), rec("t", 2), rec("u", 1), rec("t", 1, "0/1"), rec("t", 3, ""),
	} {
		got, _, _ := identify(r)
		if seen[got.String()] {
			t.Errorf("identify(%v) = %v, which another message has", r, got)
		}
		seen[got.String()] = true
	}
}

// R2: reasons to pause that are independent resume each other.
func TestAPartitionIsReadOnlyWhenNoReasonIsLeft(t *testing.T) {
	t.Parallel()
	client, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var shut bool
	u := &pauser{client: client, shut: func() bool { return shut }}
	p := newPartition("t", 3, 1, Window{Records: 1, Bytes: 1}, nil)
	step := func(what string, full, out, stopped, want bool) {
		t.Helper()
		p.full, shut, p.stopped = full, out, stopped
		u.sync(p)
		_, paused := client.PauseFetchPartitions(nil)["t"]
		if paused != want {
			t.Errorf("%s: paused = %t, want %t", what, paused, want)
		}
	}
	step("window full", true, false, false, true)
	step("and database out", true, true, false, true)
	step("window free again", false, true, false, true)
	step("database back", false, false, false, false)
	step("both at once", true, true, false, true)
	step("database back first", true, false, false, true)
	step("R1: the partition is given up", true, true, true, false)
}

func TestTheGateLetsOneProbeThroughAndWaitsLongerEachTime(t *testing.T) {
	t.Parallel()
	g := gate{retry: RetryPolicy{Min: time.Second, Max: 5 * time.Second}}
	a, b := &lane{}, &lane{}
	report := func(l *lane, v verdict) string {
		s, moved := g.report(l, v)
		return fmt.Sprint(moved, s.Shut, s.Failures, s.Wait)
	}
	var got []string
	got = append(got, report(a, healthy), report(a, outage), report(b, outage), report(b, healthy))
	got = append(got, fmt.Sprint(g.admits()))
	g.shut = false // the timer
	got = append(got, fmt.Sprint(g.admits()))
	g.admit(a)
	got = append(got, fmt.Sprint(g.admits()), report(b, healthy), report(a, outage))
	g.shut = false
	g.admit(b)
	got = append(got, report(b, neutral), fmt.Sprint(g.admits()))
	g.admit(a)
	got = append(got, report(a, healthy), fmt.Sprint(g.admits()))
	want := []string{
		"false false 0 0s", "true true 1 1s", "false false 0 0s", "false false 0 0s",
		"false", "true", "false", "false false 0 0s", "true true 2 2s",
		"true false 2 0s", "true", "true false 0 0s", "true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("gate (-want +got):\n%s", diff)
	}
}

// R10: a worker that learns of an outage while the consumer stops arms a timer that nobody stops, and that speaks to a closed client.
func TestTheGateArmsNoTimerAfterTheEnd(t *testing.T) {
	t.Parallel()
	s := newScheduler(1, RetryPolicy{Min: time.Hour, Max: time.Hour}, func() {})
	p := newPartition("t", 0, 1, Window{Records: 10, Bytes: 10}, s.push)
	s.add(p)
	ready, _, err := p.add([]*kgo.Record{{Key: []byte("k")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.push(p, ready)
	l := s.take()
	s.close()
	s.release(l, outage, false)
	if s.gate.timer != nil {
		t.Error("a timer was armed")
	}
}
