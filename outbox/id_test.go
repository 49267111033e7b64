package outbox_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/walpost/walpost/outbox"
)

func TestNewIDIsAUUIDv7OfNow(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[outbox.EventID]bool)
	for range 10_000 {
		before := time.Now().UnixMilli()
		id := outbox.NewID()
		after := time.Now().UnixMilli()
		if !form.MatchString(id.String()) {
			t.Fatalf("NewID() = %s, want the form of a UUIDv7", id)
		}
		if ms := milliseconds(id); ms < before || ms > after {
			t.Fatalf("NewID() = %s, made at %d ms, want between %d and %d", id, ms, before, after)
		}
		if id.IsZero() || seen[id] {
			t.Fatalf("NewID() = %s: zero or made before", id)
		}
		seen[id] = true
	}
}

func TestNewIDCarriesTheFractionOfTheMillisecond(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		at   string
		want string // the first 16 digits, without hyphens
	}{
		{"1970-01-01T00:00:00Z", "0000000000007000"},
		{"2022-02-22T19:22:22Z", "017f22e279b07000"}, // the time of RFC 9562, appendix A.6
		{"2022-02-22T19:22:22.000500Z", "017f22e279b07800"},
		{"2022-02-22T19:22:22.000999999Z", "017f22e279b07fff"},
		{"2022-02-22T19:22:22.001Z", "017f22e279b17000"},
		{"2022-02-22T20:22:22.001+01:00", "017f22e279b17000"},
	} {
		at, err := time.Parse(time.RFC3339Nano, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(outbox.NewIDAt(at).String(), "-", "")[:16]; got != c.want {
			t.Errorf("NewIDAt(%s) = %s…, want %s…", c.at, got, c.want)
		}
	}
}

func TestIDsSortByTheTimeOfTheirMaking(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		first := time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(t, "first"))
		second := first.Add(time.Duration(rapid.Int64Range(245, int64(time.Hour)).Draw(t, "later")))
		a, b := outbox.NewIDAt(first), outbox.NewIDAt(second)
		if bytes.Compare(a[:], b[:]) >= 0 || a.String() >= b.String() {
			t.Fatalf("id of %v = %s, id of %v = %s, want the first below", first, a, second, b)
		}
	})
}

func TestEveryIDComesBackFromItsForms(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := outbox.EventID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		for _, text := range []string{id.String(), strings.ToUpper(id.String())} {
			if got, err := outbox.ParseID(text); err != nil || got != id {
				t.Fatalf("ParseID(%s) = %v, %v, want %v", text, got, err, id)
			}
		}
		value, err := id.Value()
		if err != nil {
			t.Fatal(err)
		}
		for _, src := range []any{value, []byte(id.String()), id[:]} {
			var got outbox.EventID
			if err := got.Scan(src); err != nil || got != id {
				t.Fatalf("Scan(%v) = %v, %v, want %v", src, got, err, id)
			}
		}
		doc, err := json.Marshal(map[outbox.EventID]outbox.EventID{id: id})
		var back map[outbox.EventID]outbox.EventID
		if err != nil || json.Unmarshal(doc, &back) != nil || back[id] != id {
			t.Fatalf("JSON of %v = %s, %v, came back as %v", id, doc, err, back)
		}
	})
}

func TestOtherTextIsNoID(t *testing.T) {
	t.Parallel()
	const good = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
	for _, bad := range []string{
		"", " ", good[:35], good + "0", " " + good[:35], "{" + good + "}", "urn:uuid:" + good,
		strings.ReplaceAll(good, "-", ""), strings.ReplaceAll(good, "-", "_"), strings.ReplaceAll(good, "e", "g"),
		"017f22e279-b0-7cc3-98c4-dc0c0c07398f", "017f22e2-79b0-7cc3-98c4-dc0c0c0739\x00f", "017f22e2-79b0-7cc3-98c4-dc0c0c0739é",
	} {
		id, err := outbox.ParseID(bad)
		if !errors.Is(err, outbox.ErrInvalidID) || !id.IsZero() {
			t.Errorf("ParseID(%q) = %v, %v, want ErrInvalidID", bad, id, err)
		}
	}
	for _, bad := range []any{nil, 7, "", []byte{}, good[:35], time.Time{}} {
		id := outbox.EventID{1}
		if err := id.Scan(bad); !errors.Is(err, outbox.ErrInvalidID) || id != (outbox.EventID{1}) {
			t.Errorf("Scan(%#v) = %v, id %v, want ErrInvalidID and the id untouched", bad, err, id)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("017f22e2-79b0-7cc3-98c4-dc0c0c07398f")
	f.Add("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
	f.Add("017f22e2079b0-7cc3-98c4-dc0c0c07398f")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := outbox.ParseID(text)
		if err != nil {
			if !errors.Is(err, outbox.ErrInvalidID) || !id.IsZero() {
				t.Errorf("ParseID(%q) = %v, %v", text, id, err)
			}
			return
		}
		if id.String() != strings.ToLower(text) {
			t.Errorf("ParseID(%q).String() = %s", text, id)
		}
	})
}

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = outbox.NewID()
	}
}

func milliseconds(id outbox.EventID) int64 { return int64(binary.BigEndian.Uint64(id[:8]) >> 16) }
