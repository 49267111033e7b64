package record_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/record"
)

func TestResolveFindsColumnsByNameInAnyOrder(t *testing.T) {
	t.Parallel()
	columns, values := table(), registration()
	want, err := resolve(t, record.Mapping{}, columns).Encode(values)
	if err != nil {
		t.Fatal(err)
	}
	columns = append([]record.Column{{Name: "extra", TypeOID: 701}}, columns...)
	values = append([][]byte{[]byte("1.5")}, values...)
	columns[1], columns[5] = columns[5], columns[1]
	values[1], values[5] = values[5], values[1]
	got, err := resolve(t, record.Mapping{}, columns).Encode(values)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Encode with moved columns (-want +got):\n%s", diff)
	}
}

func TestTheDefaultsOfAMappingAreWalpostsOwnTable(t *testing.T) {
	t.Parallel()
	got := record.Mapping{Key: "customer", Placed: []string{}}.WithDefaults()
	want := record.Mapping{ID: "id", Key: "customer", Payload: "payload", Topic: "${event_type}", Placed: []string{}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("WithDefaults() (-want +got):\n%s", diff)
	}
	if got := (record.Mapping{}).WithDefaults().Placed; len(got) != 4 {
		t.Errorf("WithDefaults().Placed = %q, want the four columns of walpost's table", got)
	}
}

func TestResolveRefusesTablesThatCannotServe(t *testing.T) {
	t.Parallel()
	without := func(name string) []record.Column {
		var out []record.Column
		for _, c := range table() {
			if c.Name != name {
				out = append(out, c)
			}
		}
		return out
	}
	retyped := func(name string, oid uint32) []record.Column {
		out := table()
		for i := range out {
			if out[i].Name == name {
				out[i].TypeOID = oid
			}
		}
		return out
	}
	for _, name := range []string{"id", "aggregate_id", "payload", "event_type", "aggregate_type", "traceparent", "headers"} {
		_, err := record.Mapping{}.Resolve(without(name))
		var missing *record.MissingColumnError
		if !errors.As(err, &missing) || missing.Column != name {
			t.Errorf("Resolve without column %s = %v, want a MissingColumnError that names it", name, err)
		}
	}
	for name, oid := range map[string]uint32{"id": 20, "aggregate_id": 1700, "payload": 1184, "event_type": 17, "traceparent": 16, "aggregate_type": 19} {
		_, err := record.Mapping{}.Resolve(retyped(name, oid))
		var wrong *record.ColumnTypeError
		if !errors.As(err, &wrong) || wrong.Column != name || wrong.TypeOID != oid {
			t.Errorf("Resolve with column %s of type %d = %v, want a ColumnTypeError that names it", name, oid, err)
		}
	}
	if _, err := (record.Mapping{}).Resolve(retyped("event_type", 16400)); err != nil {
		t.Errorf("Resolve with an enum as event type = %v, want no error", err)
	}
}

func TestColumnsAreTheOnesInUse(t *testing.T) {
	t.Parallel()
	got := resolve(t, record.Mapping{Placed: []string{"headers"}, Topic: "x.${event_type}"}, table()).Columns()
	want := []record.Column{{Name: "id", TypeOID: 2950}, {Name: "aggregate_id", TypeOID: 25}, {Name: "payload", TypeOID: 114}, {Name: "headers", TypeOID: 3802}, {Name: "event_type", TypeOID: 25}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Columns() (-want +got):\n%s", diff)
	}
}

func TestMappingRefusesNonsense(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]record.Mapping{
		"an open brace":              {Topic: "a.${event_type"},
		"a nameless column":          {Topic: "a.${}"},
		"a literal that is no topic": {Topic: "a b"},
		"a header twice":             {Placed: []string{"event_type", "aggregate_type:event_type"}},
		"a second id":                {Placed: []string{"event_type:id"}},
		"a position header":          {Placed: []string{"event_type:walpost_lsn"}},
		"a placement without column": {Placed: []string{":a"}},
		"a placement without header": {Placed: []string{"a:"}},
		"an empty placement":         {Placed: []string{""}},
		"a topic of dots":            {Topic: ".."},
		"a topic of 250 bytes":       {Topic: strings.Repeat("a", 250)},
		"a topic with a bad literal": {Topic: "a/b"},
		"a bad literal in front":     {Topic: "outbox events.${event_type}"},
		"a bad literal in between":   {Topic: "${aggregate_type}/${event_type}"},
		"a bad literal at the end":   {Topic: "${event_type}.é"},
	} {
		if err := m.Validate(); err == nil {
			t.Errorf("Validate with %s = nil, want an error", name)
		}
		if _, err := m.Resolve(table()); err == nil {
			t.Errorf("Resolve with %s = nil, want an error", name)
		}
	}
}

func TestEncodeRefusesRowsThatCannotBecomeRecords(t *testing.T) {
	t.Parallel()
	const id = "0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001"
	for name, values := range map[string][][]byte{
		"too few values":         row(id),
		"a null id":              row("NULL", "user", "42", "a", "{}", "NULL", "NULL", "NULL"),
		"an empty id":            row("", "user", "42", "a", "{}", "NULL", "NULL", "NULL"),
		"a null topic column":    row(id, "user", "42", "NULL", "{}", "NULL", "NULL", "NULL"),
		"an empty topic":         row(id, "user", "42", "", "{}", "NULL", "NULL", "NULL"),
		"a topic with a blank":   row(id, "user", "42", "a b", "{}", "NULL", "NULL", "NULL"),
		"a topic beyond ASCII":   row(id, "user", "42", "é", "{}", "NULL", "NULL", "NULL"),
		"a topic that is a path": row(id, "user", "42", "..", "{}", "NULL", "NULL", "NULL"),
	} {
		_, err := resolve(t, record.Mapping{}, table()).Encode(values)
		if !errors.Is(err, record.ErrUnpublishable) {
			t.Errorf("Encode with %s = %v, want ErrUnpublishable", name, err)
		}
	}
}

func TestByteaPayloadIsItsBytes(t *testing.T) {
	t.Parallel()
	columns := table()
	columns[4].TypeOID = 17
	encode := func(payload string) (record.Record, error) {
		values := registration()
		values[4] = []byte(payload)
		return resolve(t, record.Mapping{}, columns).Encode(values)
	}
	for text, want := range map[string][]byte{`\x00ff7b`: {0, 0xff, 0x7b}, `\x`: {}} {
		got, err := encode(text)
		if err != nil || got.Value == nil || !bytes.Equal(got.Value, want) {
			t.Errorf("Encode(%s).Value = %v, %v, want %v", text, got.Value, err, want)
		}
	}
	for _, text := range []string{"", `\`, `\000`, `\xf`, `\xzz`, "00"} {
		if _, err := encode(text); !errors.Is(err, record.ErrUnpublishable) {
			t.Errorf("Encode(%s) = %v, want ErrUnpublishable", text, err)
		}
	}
}

func TestRecordsDoNotShareHeaders(t *testing.T) {
	t.Parallel()
	e := resolve(t, record.Mapping{}, table())
	first, err := e.Encode(registration())
	if err != nil {
		t.Fatal(err)
	}
	second, err := e.Encode(registration())
	if err != nil {
		t.Fatal(err)
	}
	_ = append(first.Headers, record.Header{Key: "intruder"})
	if got := second.Headers[0].Key; got != record.HeaderID {
		t.Errorf("first header of the next record = %q after appending to the one before, want %q", got, record.HeaderID)
	}
}

func TestManyTopicsDoNotPileUp(t *testing.T) {
	t.Parallel()
	e := resolve(t, record.Mapping{}, table())
	for i := range 5000 {
		values := registration()
		values[3] = fmt.Appendf(nil, "topic-%d", i)
		got, err := e.Encode(values)
		if err != nil || got.Topic != string(values[3]) {
			t.Fatalf("Encode(event type %s) = topic %q, %v", values[3], got.Topic, err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	e := resolve(b, record.Mapping{}, table())
	values := registration()
	values[4] = bytes.Repeat([]byte("x"), 427)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Encode(values); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	r, err := resolve(b, record.Mapping{}, table()).Encode(registration())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := record.Decode(r.Key, r.Value, r.Headers); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSalvageKeepsWhatThereIsOfARowThatEncodeRefuses(t *testing.T) {
	t.Parallel()
	const id = "0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001"
	columns := table()
	columns[4].TypeOID = 17 // a payload of bytes
	headers := func(eventType []byte) []record.Header {
		return []record.Header{
			{Key: "id", Value: []byte(id)}, {Key: "event_type", Value: eventType}, {Key: "aggregate_type", Value: []byte("user")}, {Key: "traceparent"}, {Key: "headers"},
		}
	}
	for name, tc := range map[string]struct {
		values [][]byte
		want   record.Record
	}{
		"without a topic": {
			values: row(id, "user", "42", "NULL", `\x00ff`, "NULL", "NULL", "NULL"),
			want:   record.Record{Key: []byte("42"), Value: []byte{0, 0xff}, Headers: headers(nil)},
		},
		"with a topic that is none": {
			values: row(id, "user", "NULL", "no topic", "NULL", "NULL", "NULL", "NULL"),
			want:   record.Record{Headers: headers([]byte("no topic"))},
		},
		"with a payload that is none": {
			values: row(id, "user", "42", "a", `\xzz`, "NULL", "NULL", "NULL"),
			want:   record.Record{Key: []byte("42"), Value: []byte(`\xzz`), Headers: headers([]byte("a"))},
		},
		"without an id": {
			values: row("NULL", "user", "42", "a", `\x00ff`, "NULL", "NULL", "NULL"),
			want:   record.Record{Key: []byte("42"), Value: []byte{0, 0xff}, Headers: headers([]byte("a"))[1:]},
		},
	} {
		e := resolve(t, record.Mapping{}, columns)
		if _, err := e.Encode(tc.values); !errors.Is(err, record.ErrUnpublishable) {
			t.Errorf("Encode of a row %s = %v, want ErrUnpublishable", name, err)
		}
		got, err := e.Salvage(tc.values)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("Salvage of a row %s = %v (-want +got):\n%s", name, err, diff)
		}
	}
	if _, err := resolve(t, record.Mapping{}, columns).Salvage(row(id)); !errors.Is(err, record.ErrUnpublishable) {
		t.Errorf("Salvage of too few values = %v, want ErrUnpublishable", err)
	}
}
