package record_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/record"
)

var update = flag.Bool("update", false, "accept the golden files as they come out")

// table is walpost's own outbox table: names and type OIDs in column order.
func table() []record.Column {
	return []record.Column{
		{Name: "id", TypeOID: 2950},
		{Name: "aggregate_type", TypeOID: 25},
		{Name: "aggregate_id", TypeOID: 25},
		{Name: "event_type", TypeOID: 25},
		{Name: "payload", TypeOID: 114},
		{Name: "headers", TypeOID: 3802},
		{Name: "traceparent", TypeOID: 25},
		{Name: "created_at", TypeOID: 1184},
	}
}

// row is a row of table; the string NULL stands for NULL.
func row(values ...string) [][]byte {
	out := make([][]byte, len(values))
	for i, v := range values {
		if v != "NULL" {
			out[i] = []byte(v)
		}
	}
	return out
}

func registration() [][]byte {
	return row("0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001", "user", "42", "notif.user.registration", `{"b":1,"a":2,"b":3}`,
		`{"tenant": "acme"}`, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "2026-11-23 20:00:00+00")
}

func resolve(t testing.TB, m record.Mapping, columns []record.Column) *record.Encoder {
	t.Helper()
	e, err := m.Resolve(columns)
	if err != nil {
		t.Fatalf("Resolve(%v) = %v, want no error", columns, err)
	}
	return e
}

func TestWireContract(t *testing.T) {
	t.Parallel()
	const full = "0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001"
	withPosition := func(r record.Record) record.Record {
		at := time.Date(2026, 11, 23, 20, 0, 0, 123456789, time.FixedZone("east", 3600))
		r.Headers = record.AppendPosition(r.Headers, record.Position{Commit: 0x16B374D848, Index: 7}, at)
		return r
	}
	for _, tc := range []struct {
		name    string
		mapping record.Mapping
		row     [][]byte
		then    func(record.Record) record.Record
	}{
		{name: "every column is set", row: registration()},
		{name: "null columns are headers with null values", row: row(full, "NULL", "42", "user.left", "{}", "NULL", "NULL", "NULL")},
		{name: "a null payload is a tombstone", row: row(full, "user", "42", "user.left", "NULL", "NULL", "NULL", "NULL")},
		{name: "empty text is not null", row: row(full, "", "", "user.left", "{}", "{}", "", "NULL")},
		{name: "a null key is no key", row: row(full, "user", "NULL", "user.left", "{}", "NULL", "NULL", "NULL")},
		{name: "position headers stand last", row: registration(), then: withPosition},
		{
			name: "topic expression and renamed headers", row: registration(),
			mapping: record.Mapping{Topic: "outbox.event.${aggregate_type}-v1", Placed: []string{"event_type:eventType", "aggregate_id"}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := resolve(t, tc.mapping, table()).Encode(tc.row)
			if err != nil {
				t.Fatalf("Encode(%q) = %v, want no error", tc.row, err)
			}
			if tc.then != nil {
				got = tc.then(got)
			}
			golden(t, tc.name, show(got))
		})
	}
}

func show(r record.Record) string {
	text := func(b []byte) string {
		if b == nil {
			return "null"
		}
		return strconv.Quote(string(b))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "topic %s\nkey %s\nvalue %s\n", r.Topic, text(r.Key), text(r.Value))
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "header %s %s\n", h.Key, text(h.Value))
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "wire", strings.ReplaceAll(name, " ", "-")+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("record on the wire differs from %s (-want +got):\n%s", path, diff)
	}
}

func TestRecordKnowsItsEventAndSize(t *testing.T) {
	t.Parallel()
	r, err := resolve(t, record.Mapping{}, table()).Encode(registration())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := r.ID(), "0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001"; got != want {
		t.Errorf("ID() = %q, want %q", got, want)
	}
	if got := (record.Record{}).ID(); got != "" {
		t.Errorf("ID() of an empty record = %q, want none", got)
	}
	small := record.Record{Topic: "ab", Key: []byte("c"), Value: []byte("def"), Headers: []record.Header{{Key: "g", Value: []byte("hi")}}}
	if got := small.Size(); got != 9 {
		t.Errorf("Size() = %d, want 9", got)
	}
}

func TestLSNText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]record.LSN{"16/B374D848": 0x16B374D848, "0/0": 0, "FFFFFFFF/FFFFFFFF": 1<<64 - 1, "0/A": 10} {
		got, err := record.ParseLSN(text)
		if err != nil || got != want {
			t.Errorf("ParseLSN(%q) = %v, %v, want %d", text, got, err, uint64(want))
		}
		if got.String() != text {
			t.Errorf("LSN(%d).String() = %q, want %q", uint64(want), got, text)
		}
	}
	for _, text := range []string{"", "16", "16/", "/16", "1/2/3", "x/1", "1/x", "100000000/0", "0/100000000", "-1/0", "0/+1"} {
		if got, err := record.ParseLSN(text); err == nil {
			t.Errorf("ParseLSN(%q) = %v, want an error", text, got)
		}
	}
}

func TestLSNMeetsSQLAsText(t *testing.T) {
	t.Parallel()
	for _, src := range []any{"0/A", []byte("0/A")} {
		var l record.LSN
		if err := l.Scan(src); err != nil || l != 10 {
			t.Errorf("Scan(%v) = %v, %v, want 0/A", src, l, err)
		}
	}
	l := record.LSN(5)
	if err := l.Scan(nil); err != nil || l != 0 {
		t.Errorf("Scan(nil) = %v, %v, want 0/0", l, err)
	}
	if err := l.Scan(7); err == nil {
		t.Error("Scan(7) = nil, want an error")
	}
}

func TestPositionsAreOrderedByCommitThenIndex(t *testing.T) {
	t.Parallel()
	ordered := []record.Position{{}, {Commit: 1, Index: 9}, {Commit: 2}, {Commit: 2, Index: 1}}
	for i, p := range ordered {
		for j, q := range ordered {
			if got, want := p.Compare(q), i-j; got < 0 != (want < 0) || got > 0 != (want > 0) {
				t.Errorf("%v.Compare(%v) = %d, want the sign of %d", p, q, got, want)
			}
		}
	}
	if got, want := ordered[3].String(), "0/2#1"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}
