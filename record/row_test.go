package record_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/walpost/walpost/record"
)

func rowDecoder(t testing.TB, m record.Mapping) *record.RowDecoder {
	t.Helper()
	d, err := record.NewRowDecoder(m)
	if err != nil {
		t.Fatalf("NewRowDecoder(%+v) = %v, want no error", m, err)
	}
	return d
}

// asRow is a row of table as a raw connector publishes it.
func asRow(t interface{ Fatal(...any) }, values [][]byte, escapeHTML bool) []byte {
	columns := make(map[string]*string)
	for i, c := range table() {
		columns[c.Name] = nil
		if values[i] != nil {
			text := string(values[i])
			columns[c.Name] = &text
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escapeHTML) // one more way to write the same text
	if err := e.Encode(columns); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestARawRowBecomesTheRecordThatTheRelayMakesOfIt(t *testing.T) {
	t.Parallel()
	for _, m := range []record.Mapping{
		{},
		{Topic: "outbox.event.${aggregate_type}-v1", Placed: []string{"event_type:eventType", "aggregate_id"}},
		{Topic: "one.topic", Placed: []string{}, Key: "event_type"},
	} {
		encoder, decoder := resolve(t, m, table()), rowDecoder(t, m)
		rapid.Check(t, func(t *rapid.T) {
			values := [][]byte{
				[]byte(rapid.StringMatching(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).Draw(t, "id")),
				[]byte(rapid.StringMatching(`[a-z]{1,20}`).Draw(t, "aggregate type")), textOrNull(t, "aggregate id"),
				[]byte(rapid.StringMatching(`[a-zA-Z0-9_-]{1,40}`).Draw(t, "event type")),
				textOrNull(t, "payload"), textOrNull(t, "headers"), textOrNull(t, "traceparent"), []byte("2026-11-23T20:00:00Z"),
			}
			want, err := encoder.Encode(values)
			if err != nil {
				t.Fatal(err)
			}
			for _, escapeHTML := range []bool{false, true} {
				raw := asRow(t, values, escapeHTML)
				got, err := decoder.Decode(raw)
				if err != nil {
					t.Fatalf("Decode(%s) = %v, want no error", raw, err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("record of %s (-of the relay +of the raw row):\n%s", raw, diff)
				}
			}
		})
	}
}

// textOrNull draws what a column of text can hold: valid UTF-8 without NUL.
func textOrNull(t *rapid.T, name string) []byte {
	if rapid.Bool().Draw(t, name+" is null") {
		return nil
	}
	text := rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r != 0 && utf8.ValidRune(r) })).Draw(t, name)
	return append([]byte{}, text...)
}

func TestEveryEscapeOfJSONIsTheCharacterItStandsFor(t *testing.T) {
	t.Parallel()
	d := rowDecoder(t, record.Mapping{Topic: "t", Placed: []string{}})
	for escaped, want := range map[string]string{
		`\"\\\/\b\f\n\r\t`:           "\"\\/\b\f\n\r\t",
		`\u0041\u00e9\u20AC`:         "Aé€",
		`\ud83d\ude00`:               "😀",
		`{\"a\":\"\\ud83d\"}`:        `{"a":"\ud83d"}`, // an escape of the payload's own stays one
		`\ufffd`:                     "\uFFFD",
		"\u2028é😀\x7f":               "\u2028é😀\x7f",
		``:                           ``,
		`1e400 -0 1.0 123456789.00`:  `1e400 -0 1.0 123456789.00`,
		strings.Repeat(`\u0001`, 99): strings.Repeat("\x01", 99),
	} {
		got, err := d.Decode([]byte(`{"id":"x","aggregate_id":"k","payload":"` + escaped + `"}`))
		if err != nil || string(got.Value) != want || got.Value == nil {
			t.Errorf("payload of the row with %q = %q, %v, want %q", escaped, got.Value, err, want)
		}
	}
}

func TestIntegersOfARowAreTheirDigits(t *testing.T) {
	t.Parallel()
	d := rowDecoder(t, record.Mapping{Key: "n", Topic: "t", Placed: []string{"i"}})
	got, err := d.Decode([]byte(`{"id":7,"n":-9223372036854775808,"payload":null,"i":0,"extra":{"x":[1.5,true]}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := record.Record{Topic: "t", Key: []byte("-9223372036854775808"), Headers: []record.Header{{Key: "id", Value: []byte("7")}, {Key: "i", Value: []byte("0")}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestABase64PayloadIsItsBytes(t *testing.T) {
	t.Parallel()
	d, err := record.NewBase64RowDecoder(record.Mapping{Topic: "t", Placed: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range []string{"\x00\xff\x00", "", "plain"} {
		got, err := d.Decode([]byte(`{"id":"x","aggregate_id":"k","payload":"` + base64.StdEncoding.EncodeToString([]byte(payload)) + `"}`))
		if err != nil || string(got.Value) != payload || got.Value == nil {
			t.Errorf("payload = %q, %v, want %q", got.Value, err, payload)
		}
	}
	if got, err := d.Decode([]byte(`{"id":"x","aggregate_id":"k","payload":null}`)); err != nil || got.Value != nil {
		t.Errorf("payload of NULL = %q, %v, want a tombstone", got.Value, err)
	}
	if _, err := d.Decode([]byte(`{"id":"x","aggregate_id":"k","payload":"{}"}`)); err == nil || !strings.Contains(err.Error(), "base64") {
		t.Errorf("payload that is not base64: error %v, want one that says so", err)
	}
}

// Which of the three classes an error has decides whether a row is buried or everything waits.
func TestErrorsOfARowSayWhetherTheRowOrTheConnectorIsToBlame(t *testing.T) {
	t.Parallel()
	const rest = `,"aggregate_type":"user","aggregate_id":"1","event_type":"e","payload":"{}","headers":null,"traceparent":null}`
	d := rowDecoder(t, record.Mapping{})
	for name, tc := range map[string]struct {
		value string
		class error // nil: neither
		says  string
	}{
		"no value":                      {"", record.ErrNotAnEvent, "JSON object"},
		"the tombstone of a deletion":   {"null", record.ErrNotAnEvent, "JSON object"},
		"no JSON":                       {`{"id":"x"`, record.ErrNotAnEvent, "JSON object"},
		"an array":                      {`[1]`, record.ErrNotAnEvent, "JSON object"},
		"two objects":                   {`{} {}`, record.ErrNotAnEvent, "JSON object"},
		"an object of another kind":     {`{"ts_ms":1}`, record.ErrNotAnEvent, `without "id"`},
		"half of a surrogate pair":      {`{"id":"\ud83d"` + rest, record.ErrNotAnEvent, `\ud83d`},
		"two first halves":              {`{"id":"\ud83d\ud83d"` + rest, record.ErrNotAnEvent, `\ud83d`},
		"half of a pair and an escape":  {`{"id":"\ud83d\n0000"` + rest, record.ErrNotAnEvent, `\ud83d`},
		"a second half":                 {`{"id":"\ude00x"` + rest, record.ErrNotAnEvent, `\ude00`},
		"a NUL":                         {`{"id":"\u0000"` + rest, record.ErrNotAnEvent, `\u0000`},
		"bytes that are not UTF-8":      {"{\"id\":\"\xff\"" + rest, record.ErrNotAnEvent, "UTF-8"},
		"a null id":                     {`{"id":null` + rest, record.ErrUnpublishable, "NULL or empty"},
		"an empty id":                   {`{"id":""` + rest, record.ErrUnpublishable, "NULL or empty"},
		"an event type that is null":    {strings.Replace(`{"id":"x"`+rest, `"e"`, `null`, 1), record.ErrUnpublishable, "topic is NULL"},
		"an event type that is no name": {strings.Replace(`{"id":"x"`+rest, `"e"`, `"a b"`, 1), record.ErrUnpublishable, "a b"},
		"a column that is missing":      {`{"id":"x","payload":"{}"}`, nil, "aggregate_id"},
		"a payload that was expanded":   {strings.Replace(`{"id":"x"`+rest, `"{}"`, `{"secret":1}`, 1), nil, "it is an object, not text"},
		"a fraction":                    {strings.Replace(`{"id":"x"`+rest, `"user"`, `1.5`, 1), nil, "fraction"},
		"a boolean":                     {strings.Replace(`{"id":"x"`+rest, `"user"`, `true`, 1), nil, "boolean"},
		"rows with their schema":        {`{"schema":{},"payload":{"id":"x"}}`, nil, "schemas.enable"},
		"rows in an envelope":           {`{"before":null,"after":{"id":"x"},"source":{},"op":"c"}`, nil, "unwrap"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := rowDecoder(t, record.Mapping{}).Decode([]byte(tc.value))
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("Decode(%s) = %+v, %v, want an error that says %q", tc.value, got, err, tc.says)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("error %q shows the payload", err)
			}
			for _, class := range []error{record.ErrNotAnEvent, record.ErrUnpublishable} {
				if got, want := errors.Is(err, class), errors.Is(tc.class, class); got != want {
					t.Errorf("errors.Is(%v, %v) = %t, want %t", err, class, got, want)
				}
			}
		})
	}
	// A decoder that met an error goes on as if nothing had been.
	if _, err := d.Decode([]byte(`{"id":null` + rest)); err == nil {
		t.Fatal("Decode of a null id = nil, want an error")
	}
	if _, err := d.Decode([]byte(`{"id":"x"` + rest)); err != nil {
		t.Errorf("Decode after an error = %v, want no error", err)
	}
}

func TestRecordsOfOneDecoderShareNothing(t *testing.T) {
	t.Parallel()
	d := rowDecoder(t, record.Mapping{})
	first, err := d.Decode(asRow(t, registration(), false))
	if err != nil {
		t.Fatal(err)
	}
	before := show(first)
	for range 200 {
		if _, err := d.Decode(asRow(t, row("other", "o", "o", "o", "o", "o", "o", "o"), false)); err != nil {
			t.Fatal(err)
		}
	}
	if after := show(first); after != before {
		t.Errorf("the first record became\n%s\nit was\n%s", after, before)
	}
}

func TestARowDecoderRefusesAMappingThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, m := range []record.Mapping{{Topic: "${"}, {Placed: []string{"id"}}, {Topic: "no topic"}} {
		if _, err := record.NewRowDecoder(m); err == nil {
			t.Errorf("NewRowDecoder(%+v) = nil, want an error", m)
		}
		if _, err := record.NewBase64RowDecoder(m); err == nil {
			t.Errorf("NewBase64RowDecoder(%+v) = nil, want an error", m)
		}
	}
}

func FuzzRowDecoder(f *testing.F) {
	f.Add([]byte(`{"id":"x","aggregate_id":"k","payload":"{\"a\":\"\\ud83d\"}","event_type":"e","aggregate_type":null,"headers":null,"traceparent":7}`))
	f.Add([]byte(`{"id":"\ud83d\ude00\u00","aggregate_id":"k"}`))
	f.Add([]byte(`{"schema":null,"payload":{}}`))
	f.Add([]byte("{\"id\":\"\xed\xa0\x80\\\\\",\"id\":1}"))
	d := rowDecoder(f, record.Mapping{Topic: "t", Placed: []string{"note"}})
	f.Fuzz(func(t *testing.T, value []byte) {
		got, err := d.Decode(value)
		if err != nil {
			return
		}
		var columns map[string]any
		decoder := json.NewDecoder(bytes.NewReader(value))
		decoder.UseNumber()
		if err := decoder.Decode(&columns); err != nil {
			t.Fatalf("Decode(%q) made a record of what is no JSON: %v", value, err)
		}
		for column, text := range map[string][]byte{"id": []byte(got.ID()), "aggregate_id": got.Key, "payload": got.Value, "note": got.Headers[1].Value} {
			var want []byte
			switch v := columns[column].(type) {
			case string:
				want = []byte(v)
			case json.Number:
				want = []byte(v.String())
			}
			if !bytes.Equal(text, want) || (text == nil) != (columns[column] == nil) {
				t.Errorf("Decode(%q): %s = %q, want %q", value, column, text, want)
			}
		}
	})
}
