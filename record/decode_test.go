package record_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/walpost/walpost/record"
)

// bytesOrNull draws a column's text, or NULL.
func bytesOrNull(t *rapid.T, name string) []byte {
	if rapid.Bool().Draw(t, name+" is null") {
		return nil
	}
	return append([]byte{}, rapid.String().Draw(t, name)...)
}

func TestDecodeGivesBackWhatEncodeWasGiven(t *testing.T) {
	t.Parallel()
	e := resolve(t, record.Mapping{}, table())
	rapid.Check(t, func(t *rapid.T) {
		headers, err := json.Marshal(rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "headers"))
		if err != nil {
			t.Fatal(err)
		}
		values := [][]byte{
			[]byte(rapid.StringMatching(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).Draw(t, "id")),
			bytesOrNull(t, "aggregate type"), bytesOrNull(t, "aggregate id"),
			[]byte(rapid.StringMatching(`[a-zA-Z0-9_-]{1,40}`).Draw(t, "event type")),
			bytesOrNull(t, "payload"), headers, bytesOrNull(t, "traceparent"), nil,
		}
		position := record.Position{Commit: record.LSN(rapid.Uint64().Draw(t, "lsn")), Index: rapid.Uint32().Draw(t, "index")}
		committedAt := time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "committed at")).UTC()

		rec, err := e.Encode(values)
		if err != nil {
			t.Fatalf("Encode(%q) = %v, want no error", values, err)
		}
		got, err := record.Decode(rec.Key, rec.Value, record.AppendPosition(rec.Headers, position, committedAt))
		if err != nil {
			t.Fatalf("Decode(Encode(%q)) = %v, want no error", values, err)
		}
		want := record.Message{
			ID: string(values[0]), AggregateType: string(values[1]), Key: string(values[2]), Type: string(values[3]), Payload: values[4],
			Headers: headers, TraceParent: string(values[6]), Position: &position, CommittedAt: committedAt,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("Decode(Encode(row)) (-want +got):\n%s", diff)
		}
	})
}

func TestDecodeRefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	id := record.Header{Key: "id", Value: []byte("x")}
	for name, headers := range map[string][]record.Header{
		"no headers":                   nil,
		"a null id":                    {{Key: "id"}},
		"headers that are not JSON":    {id, {Key: "headers", Value: []byte("{")}},
		"empty headers":                {id, {Key: "headers", Value: []byte{}}},
		"headers that are a list":      {id, {Key: "headers", Value: []byte("[1]")}},
		"headers that are a text":      {id, {Key: "headers", Value: []byte(`"{}"`)}},
		"a position without index":     {id, {Key: "walpost_lsn", Value: []byte("0/1")}, {Key: "walpost_committed_at", Value: []byte("2026-11-23T20:00:00.000000Z")}},
		"a position that is no LSN":    {id, {Key: "walpost_lsn", Value: []byte("1")}, {Key: "walpost_index", Value: []byte("1")}},
		"a commit time without a zone": {id, {Key: "walpost_lsn", Value: []byte("0/1")}, {Key: "walpost_index", Value: []byte("1")}, {Key: "walpost_committed_at", Value: []byte("2026-11-23")}},
	} {
		if got, err := record.Decode(nil, nil, headers); !errors.Is(err, record.ErrNotAnEvent) {
			t.Errorf("Decode with %s = %+v, %v, want ErrNotAnEvent", name, got, err)
		}
	}
}

func TestDecodeToleratesWhatOthersAdd(t *testing.T) {
	t.Parallel()
	got, err := record.Decode([]byte("42"), nil, []record.Header{
		{Key: "id", Value: []byte("first")},
		{Key: "__debezium.context.taskId", Value: []byte("0")},
		{Key: "event_type"},
		{Key: "headers"},
		{Key: "id", Value: []byte("last")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(record.Message{ID: "last", Key: "42"}, got); diff != "" {
		t.Errorf("Decode (-want +got):\n%s", diff)
	}
}

func TestHeadersAreAnObjectOrNone(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{"{}": "{}", " {\"a\":1}": " {\"a\":1}", "null": "", " null\n": ""} {
		m, err := record.Decode(nil, nil, []record.Header{{Key: "id", Value: []byte("x")}, {Key: "headers", Value: []byte(value)}})
		if err != nil || string(m.Headers) != want || (m.Headers == nil) != (want == "") {
			t.Errorf("Decode with headers %q = headers %q, %v, want %q", value, m.Headers, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("42"), []byte("{}"), "id", []byte("x"), "headers", []byte(`{"a":1}`))
	f.Add([]byte(nil), []byte(nil), "id", []byte("x"), "walpost_lsn", []byte("16/B374D848"))
	f.Add([]byte("k"), []byte("v"), "walpost_index", []byte("4294967296"), "walpost_committed_at", []byte("2026-11-23T20:00:00.000000Z"))
	f.Fuzz(func(t *testing.T, key, value []byte, name1 string, value1 []byte, name2 string, value2 []byte) {
		headers := []record.Header{{Key: name1, Value: value1}, {Key: name2, Value: value2}, {Key: "id", Value: []byte("fuzz")}}
		m, err := record.Decode(key, value, headers)
		if err != nil {
			if !errors.Is(err, record.ErrNotAnEvent) {
				t.Fatalf("Decode = %v, want ErrNotAnEvent", err)
			}
			return
		}
		if m.ID != "fuzz" || m.Key != string(key) || string(m.Payload) != string(value) {
			t.Errorf("Decode(%q, %q) = %+v, want id, key and payload as given", key, value, m)
		}
		if _, err := json.Marshal(m); err != nil {
			t.Errorf("Marshal(Decode(…)) = %v, want no error", err)
		}
	})
}
