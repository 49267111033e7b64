package outbox_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

// valid returns an event that every rule accepts.
func valid() outbox.Event {
	return outbox.Event{AggregateType: "user", AggregateID: "42", Type: "notif.user.registration", Payload: json.RawMessage(`{"a": 1}`)}
}

func with(change func(*outbox.Event)) outbox.Event {
	ev := valid()
	change(&ev)
	return ev
}

func jsonOfSize(n int) json.RawMessage { return json.RawMessage(`"` + strings.Repeat("x", n-2) + `"`) }

const (
	noTopic = " cannot name a topic: letters, digits, '.', '_' and '-' can"
	nul     = "holds a NUL byte, which PostgreSQL cannot store"
)

// refusals are events that no table, relay or consumer ever gets to see.
var refusals = []struct {
	name   string
	spoil  func(*outbox.Event)
	field  string
	reason string
}{
	{"no aggregate type", func(ev *outbox.Event) { ev.AggregateType = "" }, "AggregateType", "is empty"},
	{"a long aggregate type", func(ev *outbox.Event) { ev.AggregateType = strings.Repeat("é", 128) }, "AggregateType", "has 256 bytes, more than 255"},
	{"no aggregate id", func(ev *outbox.Event) { ev.AggregateID = "" }, "AggregateID", "is empty"},
	{"a long aggregate id", func(ev *outbox.Event) { ev.AggregateID = strings.Repeat("a", 1025) }, "AggregateID", "has 1025 bytes, more than 1024"},
	{"NUL in the aggregate id", func(ev *outbox.Event) { ev.AggregateID = "a\x00" }, "AggregateID", nul},
	{"an aggregate id that is no text", func(ev *outbox.Event) { ev.AggregateID = "a\xff" }, "AggregateID", "is not valid UTF-8"},
	{"a surrogate in UTF-8", func(ev *outbox.Event) { ev.AggregateID = "\xed\xa0\x80" }, "AggregateID", "is not valid UTF-8"},
	{"no type", func(ev *outbox.Event) { ev.Type = "" }, "Type", "is empty"},
	{"a long type", func(ev *outbox.Event) { ev.Type = strings.Repeat("a", 250) }, "Type", "has 250 bytes, more than 249"},
	{"a type with a blank", func(ev *outbox.Event) { ev.Type = "user registered" }, "Type", `"user registered"` + noTopic},
	{"a type with a slash", func(ev *outbox.Event) { ev.Type = "user/registered" }, "Type", `"user/registered"` + noTopic},
	{"one dot as type", func(ev *outbox.Event) { ev.Type = "." }, "Type", `"."` + noTopic},
	{"two dots as type", func(ev *outbox.Event) { ev.Type = ".." }, "Type", `".."` + noTopic},
	{"an empty payload", func(ev *outbox.Event) { ev.Payload = json.RawMessage{} }, "Payload", "is empty: nil means no payload, and JSON has no empty text"},
	{"a large payload", func(ev *outbox.Event) { ev.Payload = jsonOfSize(921_601) }, "Payload", "has 921601 bytes, more than 921600"},
	{"a payload cut short", func(ev *outbox.Event) { ev.Payload = json.RawMessage(`{"a": `) }, "Payload", "is not valid JSON"},
	{"two payloads", func(ev *outbox.Event) { ev.Payload = json.RawMessage(`{} {}`) }, "Payload", "is not valid JSON"},
	{"NUL in the payload", func(ev *outbox.Event) { ev.Payload = json.RawMessage("\"\x00\"") }, "Payload", "is not valid JSON"},
	{"a payload that is no text", func(ev *outbox.Event) { ev.Payload = json.RawMessage("\"\xff\"") }, "Payload", "is not valid UTF-8"},
	{"large headers", func(ev *outbox.Event) { ev.Headers = map[string]string{"k": strings.Repeat("v", 16_376)} }, "Headers", "have 16385 bytes, more than 16384"},
	{"headers that escapes make large", func(ev *outbox.Event) { ev.Headers = map[string]string{"k": strings.Repeat("\x01", 3_000)} }, "Headers", "have 18009 bytes, more than 16384"},
	{"NUL in a header's key", func(ev *outbox.Event) { ev.Headers = map[string]string{"a": "", "\x00": ""} }, "Headers", `key "\x00" ` + nul},
	{"NUL in a header's value", func(ev *outbox.Event) { ev.Headers = map[string]string{"k": "\x00"} }, "Headers", `value of "k" ` + nul},
	{"a header that is no text", func(ev *outbox.Event) { ev.Headers = map[string]string{"k": "\xc3"} }, "Headers", `value of "k" is not valid UTF-8`},
	{"a long trace context", func(ev *outbox.Event) { ev.TraceParent = strings.Repeat("0", 256) }, "TraceParent", "has 256 bytes, more than 255"},
	{"NUL in the trace context", func(ev *outbox.Event) { ev.TraceParent = "\x00" }, "TraceParent", nul},
}

func TestAnEventThatCouldNotBeCarriedIsRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	// A nil transaction panics when it is used.
	doors := map[string]func(context.Context, ...outbox.Event) error{
		"database/sql": func(ctx context.Context, evs ...outbox.Event) error {
			return outbox.Append(ctx, (*sql.Tx)(nil), evs...)
		},
		"pgx": func(ctx context.Context, evs ...outbox.Event) error { return outboxpgx.Append(ctx, nil, evs...) },
	}
	for _, c := range refusals {
		for door, appendTo := range doors {
			err := appendTo(t.Context(), valid(), valid(), with(c.spoil), valid())
			var got *outbox.EventError
			if !errors.Is(err, outbox.ErrInvalidEvent) || !errors.As(err, &got) {
				t.Errorf("%s: Append with %s = %v, want an EventError", door, c.name, err)
				continue
			}
			if diff := cmp.Diff(&outbox.EventError{Index: 2, Field: c.field, Reason: c.reason}, got); diff != "" {
				t.Errorf("%s: Append with %s (-want +got):\n%s", door, c.name, diff)
			}
		}
	}
}

func TestAnIDMayStandOnceInACall(t *testing.T) {
	t.Parallel()
	twice := with(func(ev *outbox.Event) { ev.ID = outbox.NewID() })
	_, err := outbox.Appender{}.Statement(t.Context(), twice, valid(), twice)
	want := "invalid event 2: ID " + twice.ID.String() + " is also the id of event 0 of the same call"
	if err == nil || err.Error() != want || !errors.Is(err, outbox.ErrInvalidEvent) {
		t.Errorf("Statement with an id twice = %v, want %s", err, want)
	}
}

func TestACallIsBoundedBeforePostgreSQLWouldRefuseIt(t *testing.T) {
	t.Parallel()
	large := with(func(ev *outbox.Event) { ev.Payload = jsonOfSize(outbox.MaxPayloadBytes) })
	events := slices.Repeat([]outbox.Event{large}, outbox.MaxAppendBytes/outbox.MaxPayloadBytes+1)
	_, err := outbox.Appender{}.Statement(t.Context(), events...)
	var got *outbox.EventError
	if !errors.As(err, &got) || got.Index != len(events)-1 {
		t.Errorf("Statement with %d bytes of payload = %v, want event %d refused", len(events)*outbox.MaxPayloadBytes, err, len(events)-1)
	}
	huge := with(func(ev *outbox.Event) { ev.Payload = make(json.RawMessage, outbox.MaxAppendBytes+1) })
	_, err = outbox.Appender{}.Statement(t.Context(), huge)
	if !errors.As(err, &got) || got.Reason != "has 268435457 bytes, more than 921600" {
		t.Errorf("Statement with one huge payload = %v, want it refused for itself", err)
	}
}

func TestNoEventsAreNothingToDo(t *testing.T) {
	t.Parallel()
	if err := outbox.Append(t.Context(), nil); err != nil {
		t.Errorf("outbox.Append() = %v", err)
	}
	if err := outboxpgx.Append(t.Context(), nil); err != nil {
		t.Errorf("outboxpgx.Append() = %v", err)
	}
}

func TestTheStatementIsConstantAndTheTableQuoted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ table, want string }{
		{"", `"outbox_events"`},
		{"Outbox", `"Outbox"`},
		{"shop.outbox", `"shop"."outbox"`},
		{`"; drop table users; --`, `"""; drop table users; --"`},
	} {
		a := outbox.Appender{Table: c.table}
		one, err := a.Statement(t.Context(), valid())
		if err != nil || !strings.HasPrefix(one.SQL, "insert into "+c.want+" (id, ") {
			t.Errorf("Statement for table %q = %q, %v, want it to insert into %s", c.table, one.SQL, err, c.want)
		}
		many, err := a.Statement(t.Context(), valid(), valid(), valid())
		if err != nil || one.SQL != many.SQL || len(one.Args) != len(many.Args) {
			t.Errorf("Statement for table %q differs between one event and three, %v", c.table, err)
		}
	}
	for _, bad := range []string{".", "a.", ".a", "a.b.c", "a\x00b"} {
		if st, err := (outbox.Appender{Table: bad}).Statement(t.Context(), valid()); err == nil {
			t.Errorf("Statement for table %q = %q, want an error", bad, st.SQL)
		}
	}
}
