package pgarray_test

import (
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"pgregory.net/rapid"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox/internal/pgarray"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestElementsAreQuotedAndNullIsNot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		elements []*string
		want     string
	}{
		{"none", nil, `{}`},
		{"a NULL", []*string{nil}, `{NULL}`},
		{"the word NULL", []*string{new("NULL")}, `{"NULL"}`},
		{"an empty string", []*string{new("")}, `{""}`},
		{"several", []*string{new("a"), nil, new("b c")}, `{"a",NULL,"b c"}`},
		{"what has a meaning in literals", []*string{new(`{"a\b",}`)}, `{"{\"a\\b\",}"}`},
		{"other characters", []*string{new("é\n\t'")}, "{\"é\n\t'\"}"},
	} {
		if got := literal(c.elements); got != c.want {
			t.Errorf("literal of %s = %s, want %s", c.name, got, c.want)
		}
	}
}

func TestPostgreSQLReadsWhatWasWritten(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.URL(t))
	element := rapid.Ptr(rapid.OneOf(rapid.String(), rapid.StringMatching(`[NUL{}",\\ \n\t\r\v]{0,6}`)), true)
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOf(element).Draw(rt, "elements")
		for _, s := range want {
			if s != nil && !storable(*s) {
				rt.Skip("no PostgreSQL text")
			}
		}
		rows, err := pool.Query(t.Context(), `select e from unnest($1::text[]) with ordinality as u(e, n) order by n`, literal(want))
		if err != nil {
			rt.Fatal(err)
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[*string])
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(want, got); len(want) > 0 && diff != "" {
			rt.Fatalf("elements of %s (-want +got):\n%s", literal(want), diff)
		}
	})
}

// FuzzLiteral compares with an independent parser of array literals, that of pgx.
func FuzzLiteral(f *testing.F) {
	f.Add("a", "", true)
	f.Add(`"`, `\`, false)
	f.Add("NULL", "{},", true)
	f.Add("\x00\x7f", "é\u2028", false)
	f.Fuzz(func(t *testing.T, a, b string, null bool) {
		if !utf8.ValidString(a) || !utf8.ValidString(b) {
			t.Skip("that parser mends invalid UTF-8, which Append refuses")
		}
		want := []*string{&a, nil, &b}
		if !null {
			want[1] = new(a + b)
		}
		var got []*string
		text := literal(want)
		if err := pgtype.NewMap().Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, []byte(text), &got); err != nil {
			t.Fatalf("parse %q: %v", text, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("elements of %q (-want +got):\n%s", text, diff)
		}
	})
}

func literal(elements []*string) string {
	var l pgarray.Literal
	for _, e := range elements {
		if e == nil {
			l.AppendOrNull("absent", false)
			continue
		}
		l.AppendOrNull(*e, true)
	}
	return l.String()
}

func storable(s string) bool {
	for _, r := range s {
		if r == 0 {
			return false
		}
	}
	return utf8.ValidString(s)
}
