package outbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
)

// TestAppend is the contract of both doors. Each case has a migrated database of its own.
func TestAppend(t *testing.T) {
	t.Parallel()
	for _, d := range doors {
		for _, c := range []struct {
			name string
			run  func(t *testing.T, d door, url string)
		}{
			{"writes every field, and NULL for those left out", everyField},
			{"keeps the bytes of the payload", payloadBytes},
			{"belongs to the transaction", transactional},
			{"takes ten thousand events in one round trip, in order", tenThousand},
			{"makes ascending ids and leaves the caller's slice alone", madeIDs},
			{"leaves the transaction usable after a refusal", refusal},
			{"captures the trace context once a call", traceContext},
			{"needs no privilege but insert", insertOnly},
			{"writes to a table of any name", otherTable},
			{"fails when the table swallows rows", swallowed},
			{"reports the database's errors with what to do", databaseErrors},
			{"heeds the context", cancelled},
		} {
			t.Run(d.name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, d, pgtest.Migrated(t))
			})
		}
	}
}

func everyField(t *testing.T, d door, url string) {
	full := outbox.Event{
		ID: outbox.NewID(), AggregateType: `a "quoted" \ {type},`, AggregateID: "käse\n\t'NULL'", Type: "A-1_b.c", Payload: json.RawMessage(`{"a": ["b", "\\"]}`),
		Headers: map[string]string{"k": `v "\ ` + "\x1f\u2028<é>", "": ""}, TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	}
	bare := outbox.Event{ID: outbox.NewID(), AggregateType: "NULL", AggregateID: "null", Type: "NULL"}
	empty := outbox.Event{ID: outbox.NewID(), AggregateType: "{}", AggregateID: " ", Type: "t", Payload: json.RawMessage("null"), Headers: map[string]string{}}
	tx := d.begin(t, url)
	must(t, tx.append(t.Context(), outbox.Appender{}, full, bare, empty))
	tx.commit(t)
	want := []row{
		{full.ID, full.AggregateType, full.AggregateID, full.Type, new(string(full.Payload)), new(`{"": "", "k": "v \"\\ \u001f` + "\u2028" + `<é>"}`), &full.TraceParent},
		{bare.ID, bare.AggregateType, bare.AggregateID, bare.Type, nil, nil, nil},
		{empty.ID, empty.AggregateType, empty.AggregateID, empty.Type, new("null"), new("{}"), nil},
	}
	if diff := cmp.Diff(want, stored(t, url, "outbox_events")); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func payloadBytes(t *testing.T, d door, url string) {
	payloads := []string{
		`{"z":1,"a":2}`, `{"a":1,"a":2}`, `9007199254740993`, `1e400`, `-0.0`, `[1.10,1E+2]`, `"\u0000"`, `"\ud800"`, `"\u00e9\/é"`, "\"\u2028😀\x7f\"",
		" {\t\"a\" :\r\n1 } \n", `{}`, `[]`, `null`, `""`, `"NULL"`, `"\\\"{,}"`, string(jsonOfSize(900_000)), string(jsonOfSize(outbox.MaxPayloadBytes)),
		strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000),
	}
	var events []outbox.Event
	for _, p := range payloads {
		events = append(events, with(func(ev *outbox.Event) { ev.Payload = json.RawMessage(p) }))
	}
	tx := d.begin(t, url)
	must(t, tx.append(t.Context(), outbox.Appender{}, events...))
	tx.commit(t)
	for i, r := range stored(t, url, "outbox_events") {
		if r.Payload == nil || *r.Payload != payloads[i] {
			t.Errorf("payload %.40q came back as %.40q", payloads[i], *r.Payload)
		}
	}
}

func transactional(t *testing.T, d door, url string) {
	kept, undone, lost := valid(), valid(), valid()
	kept.AggregateID, undone.AggregateID, lost.AggregateID = "kept", "undone", "lost"

	tx := d.begin(t, url)
	must(t, tx.append(t.Context(), outbox.Appender{}, lost))
	tx.rollback(t)

	tx = d.begin(t, url)
	must(t, tx.append(t.Context(), outbox.Appender{}, kept))
	tx.exec(t, "savepoint s")
	must(t, tx.append(t.Context(), outbox.Appender{}, undone))
	tx.exec(t, "rollback to savepoint s")
	if got := stored(t, url, "outbox_events"); len(got) != 0 {
		t.Errorf("rows before the commit = %v, want none", got)
	}
	tx.commit(t)
	if got := stored(t, url, "outbox_events"); len(got) != 1 || got[0].AggregateID != "kept" {
		t.Errorf("rows after the commit = %v, want the one kept", got)
	}
}

func tenThousand(t *testing.T, d door, url string) {
	tx := d.begin(t, url)
	must(t, tx.append(t.Context(), outbox.Appender{}, valid())) // the driver prepares the statement
	var events []outbox.Event
	var want []string
	for i := range 10_000 {
		want = append(want, fmt.Sprint(i))
		events = append(events, with(func(ev *outbox.Event) { ev.AggregateID = want[i] }))
	}
	if n := roundTrips(t, tx, func() { must(t, tx.append(t.Context(), outbox.Appender{}, events...)) }); n != 1 {
		t.Errorf("round trips for %d events = %d, want 1", len(events), n)
	}
	tx.commit(t)
	var got []string
	for _, r := range stored(t, url, "outbox_events")[1:] {
		got = append(got, r.AggregateID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("aggregate ids in the order of insertion (-want +got):\n%s", diff)
	}
}

func madeIDs(t *testing.T, d door, url string) {
	events := slices.Repeat([]outbox.Event{valid()}, 1_000)
	events[500].ID = outbox.EventID{1}
	before := slices.Clone(events)
	tx := d.begin(t, url)
	must(t, tx.append(t.Context(), outbox.Appender{}, events...))
	tx.commit(t)
	if diff := cmp.Diff(before, events); diff != "" {
		t.Errorf("Append changed the caller's events:\n%s", diff)
	}
	var made []string
	for _, r := range stored(t, url, "outbox_events") {
		if r.ID != events[500].ID {
			made = append(made, r.ID.String())
		}
	}
	if len(made) != 999 || !slices.IsSorted(made) || len(slices.Compact(made)) != 999 {
		t.Errorf("%d ids were made, want 999 that ascend strictly", len(made))
	}
}

func refusal(t *testing.T, d door, url string) {
	tx := d.begin(t, url)
	n := roundTrips(t, tx, func() {
		for _, c := range refusals {
			if err := tx.append(t.Context(), outbox.Appender{}, valid(), with(c.spoil)); !errors.Is(err, outbox.ErrInvalidEvent) {
				t.Errorf("Append with %s = %v, want ErrInvalidEvent", c.name, err)
			}
		}
		must(t, tx.append(t.Context(), outbox.Appender{}))
	})
	if n != 0 {
		t.Errorf("round trips for refused events and for none = %d, want 0", n)
	}
	must(t, tx.append(t.Context(), outbox.Appender{}, valid()))
	tx.commit(t)
	if got := stored(t, url, "outbox_events"); len(got) != 1 {
		t.Errorf("rows = %v, want the valid event alone", got)
	}
}

func traceContext(t *testing.T, d door, url string) {
	type key struct{}
	calls := 0
	a := outbox.Appender{TraceParent: func(ctx context.Context) string {
		calls++
		text, _ := ctx.Value(key{}).(string)
		return text
	}}
	own := with(func(ev *outbox.Event) { ev.TraceParent = "its own" })
	tx := d.begin(t, url)
	must(t, tx.append(context.WithValue(t.Context(), key{}, "the span's"), a, valid(), own, valid()))
	must(t, tx.append(t.Context(), a, valid()))
	tx.commit(t)
	var got []*string
	for _, r := range stored(t, url, "outbox_events") {
		got = append(got, r.TraceParent)
	}
	if diff := cmp.Diff([]*string{new("the span's"), new("its own"), new("the span's"), nil}, got); diff != "" || calls != 2 {
		t.Errorf("after %d calls of the hook, want 2, trace contexts (-want +got):\n%s", calls, diff)
	}
}

func insertOnly(t *testing.T, d door, url string) {
	writer := writerURL(t, url, "insert")
	tx := d.begin(t, writer)
	must(t, tx.append(t.Context(), outbox.Appender{}, valid(), with(func(ev *outbox.Event) { ev.ID = outbox.EventID{1} })))
	tx.commit(t)
	if got := stored(t, url, "outbox_events"); len(got) != 2 {
		t.Errorf("rows = %v, want 2", got)
	}
}

func otherTable(t *testing.T, d door, url string) {
	const quoted = `"My Shop"."It's ""the"" outbox"`
	tx := d.begin(t, url)
	tx.exec(t, `create schema "My Shop"`)
	tx.exec(t, `create table `+quoted+` (like outbox_events including all)`)
	must(t, tx.append(t.Context(), outbox.Appender{Table: `My Shop.It's "the" outbox`}, valid()))
	tx.commit(t)
	if here, there := stored(t, url, "outbox_events"), stored(t, url, quoted); len(here) != 0 || len(there) != 1 {
		t.Errorf("rows in outbox_events = %v, in %s = %v", here, quoted, there)
	}
}

func swallowed(t *testing.T, d door, url string) {
	tx := d.begin(t, url)
	tx.exec(t, `create function swallow() returns trigger language plpgsql as $$ begin return case when new.aggregate_id = '42' then null else new end; end $$`)
	tx.exec(t, `create trigger swallow before insert on outbox_events for each row execute function swallow()`)
	err := tx.append(t.Context(), outbox.Appender{}, valid(), with(func(ev *outbox.Event) { ev.AggregateID = "43" }))
	if want := `append 2 events to "outbox_events": the table took 1 rows`; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Append to a table that swallows rows = %v, want %s", err, want)
	}
}

func databaseErrors(t *testing.T, d door, url string) {
	used := with(func(ev *outbox.Event) { ev.ID = outbox.NewID() })
	tx := d.begin(t, url)
	must(t, tx.append(t.Context(), outbox.Appender{}, used))
	tx.commit(t)
	for _, c := range []struct {
		name, url, table string
		event            outbox.Event
		state, text      string
	}{
		{"an id of an earlier call", url, "", used, "23505", `append 1 events to "outbox_events": `},
		{"a missing table", url, "none", valid(), "42P01", "make the table with `walpost migrate up`"},
		{"a role without privilege", writerURL(t, url, "select"), "", valid(), "42501", "must grant this role insert"},
	} {
		err := d.begin(t, c.url).append(t.Context(), outbox.Appender{Table: c.table}, c.event)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != c.state || !strings.Contains(err.Error(), c.text) || errors.Is(err, outbox.ErrInvalidEvent) {
			t.Errorf("Append with %s = %v, want SQLSTATE %s and %q", c.name, err, c.state, c.text)
		}
	}
}

func cancelled(t *testing.T, d door, url string) {
	tx := d.begin(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tx.append(ctx, outbox.Appender{}, valid()); !errors.Is(err, context.Canceled) {
		t.Errorf("Append with a cancelled context = %v, want context.Canceled", err)
	}
}

// TestTheOrderCostsNoSort looks at the plan: PostgreSQL knows that a function's rows come in the order of their ordinality.
func TestTheOrderCostsNoSort(t *testing.T) {
	t.Parallel()
	st, err := outbox.Appender{}.Statement(t.Context(), valid(), valid())
	must(t, err)
	rows, err := pgtest.Pool(t, pgtest.Migrated(t)).Query(t.Context(), "explain (costs off) "+st.SQL, st.Args...)
	must(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	must(t, err)
	if text := strings.Join(plan, "\n"); strings.Contains(text, "Sort") || !strings.Contains(text, "Function Scan") {
		t.Errorf("plan of the statement:\n%s\nwant a function scan without a sort", text)
	}
}
