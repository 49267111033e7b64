package outboxtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxpgx"
	"github.com/walpost/walpost/outbox/outboxtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// recorder is a test that is expected to fail.
type recorder struct {
	testing.TB
	text string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) { r.text += fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }

// failure runs an assertion and returns what it reported; "" if it passed.
func failure(t *testing.T, assert func(testing.TB)) string {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		assert(r)
	}()
	<-done
	return r.text
}

// transaction is what the cases need of a transaction of either kind.
type transaction struct {
	append  func(a outbox.Appender, events ...outbox.Event)
	exec    func(statement string)
	failure func(table outboxtest.Table, want ...outbox.Event) string
}

var doors = map[string]func(t *testing.T, url string) transaction{
	"database/sql": func(t *testing.T, url string) transaction {
		t.Helper()
		tx, err := pgtest.DB(t, url).BeginTx(t.Context(), nil)
		must(t, err)
		t.Cleanup(func() { _ = tx.Rollback() }) // what a user's test does
		return transaction{
			append: func(a outbox.Appender, events ...outbox.Event) {
				t.Helper()
				must(t, a.Append(t.Context(), tx, events...))
			},
			exec: func(statement string) {
				t.Helper()
				_, err := tx.ExecContext(t.Context(), statement)
				must(t, err)
			},
			failure: func(table outboxtest.Table, want ...outbox.Event) string {
				if table == "" {
					return failure(t, func(tb testing.TB) { outboxtest.Appended(tb, tx, want...) })
				}
				return failure(t, func(tb testing.TB) { table.Appended(tb, tx, want...) })
			},
		}
	},
	"pgx": func(t *testing.T, url string) transaction {
		t.Helper()
		tx, err := pgtest.Pool(t, url).Begin(t.Context())
		must(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // what a user's test does
		return transaction{
			append: func(a outbox.Appender, events ...outbox.Event) {
				t.Helper()
				must(t, outboxpgx.Appender(a).Append(t.Context(), tx, events...))
			},
			exec: func(statement string) {
				t.Helper()
				_, err := tx.Exec(t.Context(), statement)
				must(t, err)
			},
			failure: func(table outboxtest.Table, want ...outbox.Event) string {
				if table == "" {
					return failure(t, func(tb testing.TB) { outboxtest.AppendedPgx(tb, tx, want...) })
				}
				return failure(t, func(tb testing.TB) { table.AppendedPgx(tb, tx, want...) })
			},
		}
	},
}

func TestAppended(t *testing.T) {
	t.Parallel()
	for name, begin := range doors {
		for _, c := range []struct {
			name string
			run  func(t *testing.T, url string, begin func(*testing.T, string) transaction)
		}{
			{"passes for exactly the appended events", passes},
			{"compares every field that is given", everyField},
			{"heeds the order, of calls and within a call", order},
			{"counts what savepoints kept and not what they took back", savepoints},
			{"does not see what others committed", others},
			{"orders events of several partitions", partitions},
			{"orders rows that fill the holes of a vacuumed table", holes},
			{"looks at another table", otherTable},
			{"reports a failed transaction", failedTransaction},
		} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, pgtest.Migrated(t), begin)
			})
		}
	}
}

func passes(t *testing.T, url string, begin func(*testing.T, string) transaction) {
	tx := begin(t, url)
	expectPass(t, tx.failure(""))
	a, b, c := event("a"), event("b"), event("c")
	b.Payload, b.Headers, b.ID = nil, map[string]string{"z": "<\u2028>", "a": `"`}, outbox.NewID()
	hooked := outbox.Appender{TraceParent: func(context.Context) string { return "the span's" }}
	tx.append(outbox.Appender{}, a)
	expectPass(t, tx.failure("", a))
	tx.append(hooked, b, c)
	for range 2 { // looking changes nothing
		expectPass(t, tx.failure("", a, b, c))
	}
	c.TraceParent = "the span's"
	expectPass(t, tx.failure("", a, b, c))
}

func everyField(t *testing.T, url string, begin func(*testing.T, string) transaction) {
	tx := begin(t, url)
	appended := event("a")
	appended.ID, appended.TraceParent, appended.Headers = outbox.NewID(), "trace", map[string]string{"k": "v"}
	tx.append(outbox.Appender{}, appended)
	for name, change := range map[string]func(*outbox.Event){
		"ID":            func(ev *outbox.Event) { ev.ID = outbox.NewID() },
		"AggregateType": func(ev *outbox.Event) { ev.AggregateType = "other" },
		"AggregateID":   func(ev *outbox.Event) { ev.AggregateID = "other" },
		"Type":          func(ev *outbox.Event) { ev.Type = "other" },
		"Payload":       func(ev *outbox.Event) { ev.Payload = json.RawMessage(`{"n":  1}`) },
		"Payload nil":   func(ev *outbox.Event) { ev.Payload = nil },
		"Headers":       func(ev *outbox.Event) { ev.Headers = map[string]string{"k": "w"} },
		"Headers empty": func(ev *outbox.Event) { ev.Headers = map[string]string{} },
		"Headers nil":   func(ev *outbox.Event) { ev.Headers = nil },
		"TraceParent":   func(ev *outbox.Event) { ev.TraceParent = "other" },
	} {
		want := appended
		change(&want)
		field, _, _ := strings.Cut(name, " ")
		signed := regexp.MustCompile(`(?m)^([-+])     (\w+): `).FindAllStringSubmatch(tx.failure("", want), -1)
		if len(signed) != 2 || signed[0][1]+signed[0][2] != "-"+field || signed[1][1]+signed[1][2] != "+"+field {
			t.Errorf("Appended with another %s reports the differences %q, want %s alone", name, signed, field)
		}
	}
}

func order(t *testing.T, url string, begin func(*testing.T, string) transaction) {
	tx := begin(t, url)
	a, b, c := event("a"), event("b"), event("c")
	tx.append(outbox.Appender{}, b)
	tx.append(outbox.Appender{}, a, c)
	expectPass(t, tx.failure("", b, a, c))
	for _, want := range [][]outbox.Event{{a, b, c}, {b, c, a}, {b, a}, {b, a, c, c}, {a, c}, {}} {
		if tx.failure("", want...) == "" {
			t.Errorf("Appended passes for %v, want only b, a, c", want)
		}
	}
}

func savepoints(t *testing.T, url string, begin func(*testing.T, string) transaction) {
	tx := begin(t, url)
	tx.exec("savepoint one")
	tx.append(outbox.Appender{}, event("one"))
	tx.exec("savepoint two")
	tx.append(outbox.Appender{}, event("two"))
	tx.exec("savepoint three")
	tx.append(outbox.Appender{}, event("three"))
	tx.exec("release savepoint three")
	expectPass(t, tx.failure("", event("one"), event("two"), event("three")))
	tx.exec("rollback to savepoint two")
	expectPass(t, tx.failure("", event("one")))
	tx.exec("release savepoint one")
	tx.append(outbox.Appender{}, event("four"))
	expectPass(t, tx.failure("", event("one"), event("four")))
}

func others(t *testing.T, url string, begin func(*testing.T, string) transaction) {
	committed := func(id string) {
		tx := begin(t, url)
		tx.exec("savepoint s")
		tx.append(outbox.Appender{}, event(id))
		tx.exec("release savepoint s")
		tx.exec("commit")
	}
	committed("before")
	tx := begin(t, url)
	tx.append(outbox.Appender{}, event("mine"))
	committed("meanwhile")
	open := begin(t, url)
	open.append(outbox.Appender{}, event("uncommitted"))
	expectPass(t, tx.failure("", event("mine")))
	expectPass(t, open.failure("", event("uncommitted")))
	expectPass(t, begin(t, url).failure(""))
}

func partitions(t *testing.T, url string, begin func(*testing.T, string) transaction) {
	foreign, today := event("foreign"), event("today")
	foreign.ID = outbox.EventID{0xff}
	other := event("foreign too")
	other.ID = outbox.EventID{0xfe}
	for _, events := range [][]outbox.Event{{foreign, today, other}, {today, foreign, other}, {foreign, other, today, event("again")}} {
		tx := begin(t, url)
		tx.append(outbox.Appender{}, events...)
		expectPass(t, tx.failure("", events...))
		tx.exec("rollback")
	}
	tx := begin(t, url)
	for _, ev := range []outbox.Event{today, foreign, event("again"), other} {
		tx.append(outbox.Appender{}, ev)
	}
	expectPass(t, tx.failure("", today, foreign, event("again"), other))
	if tx.failure("", foreign, other, today, event("again")) == "" {
		t.Error("Appended passes for the order of the partitions, want the order of the calls")
	}
}

// holes leaves little room in the first page of the table and much in a later one: a large row goes to the later one, the small rows after it follow until
// it is full, and then fill the first page.
func holes(t *testing.T, url string, begin func(*testing.T, string) transaction) {
	var many []outbox.Event
	for i := range 300 {
		many = append(many, event(fmt.Sprint(i)))
	}
	tx := begin(t, url)
	tx.append(outbox.Appender{}, many...)
	tx.exec("commit")
	db := pgtest.DB(t, url)
	for _, statement := range []string{"delete from outbox_events where aggregate_id::integer < 5 or aggregate_id::integer between 100 and 199", "vacuum outbox_events"} {
		_, err := db.ExecContext(t.Context(), statement)
		must(t, err)
	}
	tx = begin(t, url)
	many[0].AggregateID = strings.Repeat("0", outbox.MaxAggregateIDBytes)
	tx.append(outbox.Appender{}, many...)
	expectPass(t, tx.failure("", many...))
	tx.exec("commit")
	var inOrder bool
	must(t, db.QueryRowContext(t.Context(), `
		select bool_and(later) from (
			select id > lag(id) over (partition by tableoid order by ctid) as later from outbox_events where created_at = (select max(created_at) from outbox_events)
		) as neighbours`).Scan(&inOrder))
	if inOrder {
		t.Error("the rows lie in the order of their insertion, so this case has proved nothing")
	}
}

func otherTable(t *testing.T, url string, begin func(*testing.T, string) transaction) {
	tx := begin(t, url)
	tx.exec(`create schema shop`)
	tx.exec(`create table shop."Outbox" (like outbox_events including all)`)
	tx.append(outbox.Appender{Table: "shop.Outbox"}, event("a"))
	expectPass(t, tx.failure("shop.Outbox", event("a")))
	expectPass(t, tx.failure(""))
	if text := tx.failure("a.b.c"); !strings.Contains(text, "neither a name nor schema.name") {
		t.Errorf("Appended of table a.b.c reports %q", text)
	}
}

func failedTransaction(t *testing.T, url string, begin func(*testing.T, string) transaction) {
	tx := begin(t, url)
	tx.exec("commit")
	if text := tx.failure("none"); !strings.Contains(text, "read the appended events: ") {
		t.Errorf("Appended in a transaction that ended reports %q", text)
	}
}

func TestTheReportReadsLikeADiff(t *testing.T) {
	t.Parallel()
	url := pgtest.Migrated(t)
	long := func(middle string) json.RawMessage {
		return json.RawMessage(`"` + strings.Repeat("x", 500) + middle + strings.Repeat("y", 500) + `"`)
	}
	missing, changed, extra := event("missing"), event("changed"), event("extra")
	changed.ID, extra.ID = outbox.EventID{1}, outbox.EventID{2}
	extra.Headers = map[string]string{"k": "v"}
	wanted := changed
	changed.Payload, wanted.Payload, wanted.Type = long("A"), long("B"), "other"
	for _, c := range []struct {
		name      string
		got, want []outbox.Event
		report    string
	}{
		{"one missing between equal ones", []outbox.Event{event("a"), event("z")}, []outbox.Event{event("a"), missing, event("z")}, `
  {AggregateType: "user", AggregateID: "a", Type: "user.registered", …}
- {
-     AggregateType: "user"
-     AggregateID: "missing"
-     Type: "user.registered"
-     Payload: {"n": 1}
-     Headers: NULL
- }
  {AggregateType: "user", AggregateID: "z", Type: "user.registered", …}
`},
		{"one too many", []outbox.Event{extra}, nil, `
+ {
+     ID: 02000000-0000-0000-0000-000000000000
+     AggregateType: "user"
+     AggregateID: "extra"
+     Type: "user.registered"
+     Payload: {"n": 1}
+     Headers: {"k":"v"}
+     TraceParent: ""
+ }
`},
		{"one that differs", []outbox.Event{changed}, []outbox.Event{wanted}, `
  {
      ID: 01000000-0000-0000-0000-000000000000
      AggregateType: "user"
      AggregateID: "changed"
-     Type: "other"
+     Type: "user.registered"
-     Payload: …` + strings.Repeat("x", 60) + "B" + strings.Repeat("y", 139) + `… (1003 bytes)
+     Payload: …` + strings.Repeat("x", 60) + "A" + strings.Repeat("y", 139) + `… (1003 bytes)
      Headers: NULL
      TraceParent: ""
  }
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tx := doors["pgx"](t, url)
			tx.append(outbox.Appender{}, c.got...)
			if diff := cmp.Diff("events appended in this transaction (-want +got):"+c.report, tx.failure("", c.want...)); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

func event(aggregateID string) outbox.Event {
	return outbox.Event{AggregateType: "user", AggregateID: aggregateID, Type: "user.registered", Payload: json.RawMessage(`{"n": 1}`)}
}

func expectPass(t *testing.T, report string) {
	t.Helper()
	if report != "" {
		t.Errorf("Appended reports %s", report)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
