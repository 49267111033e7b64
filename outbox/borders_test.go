package outbox_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
)

// TestTheTableTakesWhatAppendTakes walks both sides of every limit: the library and the CHECK constraints must give the same answer.
func TestTheTableTakesWhatAppendTakes(t *testing.T) {
	t.Parallel()
	type set = func(*outbox.Event, string)
	aggregateType := func(ev *outbox.Event, s string) { ev.AggregateType = s }
	aggregateID := func(ev *outbox.Event, s string) { ev.AggregateID = s }
	eventType := func(ev *outbox.Event, s string) { ev.Type = s }
	payload := func(ev *outbox.Event, s string) { ev.Payload = json.RawMessage(s) }
	header := func(ev *outbox.Event, s string) { ev.Headers = map[string]string{"k": s} }
	headerKey := func(ev *outbox.Event, s string) { ev.Headers = map[string]string{s: "v", "k": "v"} }
	traceParent := func(ev *outbox.Event, s string) { ev.TraceParent = s }
	const headerRoom = outbox.MaxHeadersBytes - len(`{"k": ""}`)

	cases := []struct {
		name  string
		set   set
		value string
		taken bool
	}{
		{"aggregate type, 0 bytes", aggregateType, "", false},
		{"aggregate type, 1 byte", aggregateType, "a", true},
		{"aggregate type, the most", aggregateType, strings.Repeat("a", outbox.MaxAggregateTypeBytes), true},
		{"aggregate type, one more", aggregateType, strings.Repeat("a", outbox.MaxAggregateTypeBytes+1), false},
		{"aggregate type, one more in multi-byte characters", aggregateType, strings.Repeat("é", (outbox.MaxAggregateTypeBytes+1)/2), false},
		{"aggregate id, 0 bytes", aggregateID, "", false},
		{"aggregate id, a blank", aggregateID, " ", true},
		{"aggregate id, the most", aggregateID, strings.Repeat("é", outbox.MaxAggregateIDBytes/2), true},
		{"aggregate id, one more", aggregateID, strings.Repeat("é", outbox.MaxAggregateIDBytes/2) + "a", false},
		{"type, the most", eventType, strings.Repeat("a", outbox.MaxTypeBytes), true},
		{"type, one more", eventType, strings.Repeat("a", outbox.MaxTypeBytes+1), false},
		{"type, three dots", eventType, "...", true},
		{"payload, the most", payload, string(jsonOfSize(outbox.MaxPayloadBytes)), true},
		{"payload, one more", payload, string(jsonOfSize(outbox.MaxPayloadBytes + 1)), false},
		{"payload, the most with blanks", payload, "{}" + strings.Repeat(" ", outbox.MaxPayloadBytes-2), true},
		{"payload, one more with blanks", payload, "{}" + strings.Repeat(" ", outbox.MaxPayloadBytes-1), false},
		{"payload, deep", payload, strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), true},
		{"headers, the most", header, strings.Repeat("v", headerRoom), true},
		{"headers, one more", header, strings.Repeat("v", headerRoom+1), false},
		{"headers, the most with escapes", header, strings.Repeat("\"\\", headerRoom/4), true},
		{"headers, one more with escapes", header, strings.Repeat("\"\\", headerRoom/4) + strings.Repeat("v", headerRoom%4+1), false},
		{"headers, the most with control characters", header, strings.Repeat("\x01", headerRoom/6) + strings.Repeat("v", headerRoom%6), true},
		{"headers, one more with control characters", header, strings.Repeat("\x01", headerRoom/6) + strings.Repeat("v", headerRoom%6+1), false},
		{"headers, the most with characters that other encoders escape", header, strings.Repeat("<\u2028", headerRoom/4), true},
		{"headers, one more with such characters", header, strings.Repeat("<\u2028", headerRoom/4) + strings.Repeat("v", headerRoom%4+1), false},
		{"headers, the most in the key", headerKey, strings.Repeat("k", headerRoom-len(`v": "v", "`)), true},
		{"headers, one more in the key", headerKey, strings.Repeat("k", headerRoom-len(`v": "v", "`)+1), false},
		{"headers, empty key", headerKey, "", true},
		{"trace context, 1 byte", traceParent, "0", true},
		{"trace context, the most", traceParent, strings.Repeat("0", outbox.MaxTraceParentBytes), true},
		{"trace context, one more", traceParent, strings.Repeat("0", outbox.MaxTraceParentBytes+1), false},
	}
	for c := range rune(256) { // every byte where a topic could have it, and where text could
		text := string(c)
		topic := strings.Contains("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", text)
		cases = append(cases, struct {
			name  string
			set   set
			value string
			taken bool
		}{"type with " + text, eventType, "a" + text, topic})
	}

	pool := pgtest.Pool(t, pgtest.Migrated(t))
	for _, c := range cases {
		ev := with(func(ev *outbox.Event) { ev.ID = outbox.NewID(); c.set(ev, c.value) })
		if got := libraryTakes(t, ev); got != c.taken {
			t.Errorf("Append takes %q = %v, want %v", c.name, got, c.taken)
		}
		if got := tableTakes(t, pool, ev); got != c.taken {
			t.Errorf("the table takes %q = %v, want %v", c.name, got, c.taken)
		}
	}
}

func TestTheTableAndAppendAgreeOnRandomText(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	text := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[a-z._\\"{},\x00-\x1f]{0,8}`),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 6), func(b []byte) string { return string(b) }),
	)
	payload := rapid.OneOf(
		text,
		rapid.Map(text, func(s string) string { return `{"` + s + `": ["` + s + `"]}` }),
		rapid.StringMatching(`-?[0-9]{1,20}(\.[0-9]{0,3})?([eE][+-]?[0-9]{0,3})?`),
		rapid.StringMatching(`"\\(["\\/bfnrtu]|u[0-9a-fA-F]{3,5})"`),
		rapid.StringMatching(`[\[\]{}:,"truefalsn 0-9]{1,8}`),
	)
	rapid.Check(t, func(rt *rapid.T) {
		ev := with(func(ev *outbox.Event) { ev.ID = outbox.NewID() })
		switch field := rapid.SampledFrom([]string{"AggregateType", "AggregateID", "Type", "Payload", "Headers", "TraceParent"}).Draw(rt, "field"); field {
		case "AggregateType":
			ev.AggregateType = text.Draw(rt, field)
		case "AggregateID":
			ev.AggregateID = text.Draw(rt, field)
		case "Type":
			ev.Type = text.Draw(rt, field)
		case "Payload":
			ev.Payload = json.RawMessage(payload.Draw(rt, field))
		case "Headers":
			ev.Headers = rapid.MapOfN(text, text, 0, 3).Draw(rt, field)
		case "TraceParent":
			ev.TraceParent = text.Draw(rt, field)
		}
		if library, table := libraryTakes(t, ev), tableTakes(t, pool, ev); library != table {
			rt.Fatalf("Append takes %+v = %v, the table %v", ev, library, table)
		}
	})
}

func libraryTakes(t *testing.T, ev outbox.Event) bool {
	t.Helper()
	_, err := outbox.Appender{}.Statement(t.Context(), ev)
	if err != nil && !errors.Is(err, outbox.ErrInvalidEvent) {
		t.Fatal(err)
	}
	return err == nil
}

// tableTakes inserts the event without the library. Text that no PostgreSQL string can hold counts as refused by the table.
func tableTakes(t *testing.T, pool *pgxpool.Pool, ev outbox.Event) bool {
	t.Helper()
	var headers, traceParent *string
	if ev.Headers != nil {
		headers = new("{")
		for k, v := range ev.Headers {
			if len(*headers) > 1 {
				*headers += ","
			}
			*headers += plainJSON(k) + ":" + plainJSON(v)
		}
		*headers += "}"
	}
	if ev.TraceParent != "" {
		traceParent = &ev.TraceParent
	}
	_, err := pool.Exec(t.Context(), `
		insert into outbox_events (id, aggregate_type, aggregate_id, event_type, payload, headers, traceparent)
		values ($1::text::uuid, $2, $3, $4, $5::text::json, $6::text::jsonb, $7)`,
		pgx.QueryExecModeExec, ev.ID.String(), ev.AggregateType, ev.AggregateID, ev.Type, string(ev.Payload), headers, traceParent)
	if err == nil {
		return true
	}
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		t.Fatal(err)
	}
	switch pgErr.Code {
	case "23514", "22021", "22P02", "22P05": // check_violation, character_not_in_repertoire, invalid_text_representation, untranslatable_character
		return false
	}
	t.Fatalf("insert %+v: %v", ev, err)
	return false
}

// plainJSON writes a JSON string with the six-character escape for every ASCII character, so that the size in the table is all PostgreSQL's own making.
func plainJSON(s string) string {
	var text strings.Builder
	text.WriteByte('"')
	for i := range len(s) {
		if s[i] < 0x80 {
			text.WriteString(`\u00` + string("0123456789abcdef"[s[i]>>4]) + string("0123456789abcdef"[s[i]&15]))
			continue
		}
		text.WriteByte(s[i])
	}
	text.WriteByte('"')
	return text.String()
}
