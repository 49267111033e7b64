package migrations_test

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/migrations"
	"github.com/walpost/walpost/outbox"
)

func TestUpMakesPartitionsFromYesterdayToAWeekAhead(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	for _, table := range []string{"outbox_events", "inbox"} {
		want := []string{table + "_default"}
		for day := -1; day <= migrations.DaysAhead; day++ {
			want = append(want, dayName(table, today(t, db).AddDate(0, 0, day)))
		}
		slices.Sort(want)
		got := query[string](t, db, `select inhrelid::regclass::text from pg_inherits where inhparent = $1::text::regclass order by 1`, table)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("partitions of %s (-want +got):\n%s", table, diff)
		}
	}
}

func TestADayHoldsTheIdsOfItsMillisecondsInUTC(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t)+"&timezone=Pacific/Auckland")
	up(t, db)
	day := today(t, db)
	first, next := lowestID(day), lowestID(day.AddDate(0, 0, 1))
	for _, c := range []struct{ name, id, want string }{
		{"the lowest id of the day", first, dayName("outbox_events", day)},
		{"the highest id of the day before", before(first), dayName("outbox_events", day.AddDate(0, 0, -1))},
		{"the highest id of the day", before(next), dayName("outbox_events", day)},
		{"an id made now", outbox.NewID().String(), dayName("outbox_events", day)},
		{"an id of version 4", "9b2f6d5e-6c1a-4f0e-9c3b-0d6a7e8f9a1b", "outbox_events_default"},
		{"an id of last month", lowestID(day.AddDate(0, -1, 0)), "outbox_events_default"},
		{"the highest id of all", "ffffffff-ffff-ffff-ffff-ffffffffffff", "outbox_events_default"},
	} {
		insert(t, db, c.id)
		if got := query[string](t, db, `select tableoid::regclass::text from outbox_events where id = $1::text::uuid`, c.id)[0]; got != c.want {
			t.Errorf("%s, %s, lies in %s, want %s", c.name, c.id, got, c.want)
		}
	}
}

func TestAnIDIsUniqueOverAllPartitions(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	for _, id := range []string{outbox.NewID().String(), lowestID(today(t, db).AddDate(0, 0, 5)), "9b2f6d5e-6c1a-4f0e-9c3b-0d6a7e8f9a1b"} {
		insert(t, db, id)
		exec(t, db, `insert into inbox (consumer, msg_id) values (1, $1::text::uuid), (2, $1::text::uuid)`, id)
		for _, again := range []string{
			`insert into outbox_events (id, aggregate_type, aggregate_id, event_type) values ($1::text::uuid, 'other', 'other', 'other')`,
			`insert into inbox (consumer, msg_id) values (2, $1::text::uuid)`,
		} {
			if _, err := db.ExecContext(t.Context(), again, id); sqlState(err) != "23505" {
				t.Errorf("%s with id %s again = %v, want a unique violation", again, id, err)
			}
		}
	}
}

func TestCreatePartitionsMakesOnlyWhatIsMissing(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	day := today(t, db)
	exec(t, db, `drop table `+dayName("inbox", day))
	got, err := migrations.CreatePartitions(t.Context(), db, migrations.DaysAhead+1)
	if err != nil {
		t.Fatalf("CreatePartitions: %v", err)
	}
	var want []migrations.Partition
	for _, table := range []string{"outbox_events", "inbox"} {
		for n := -1; n <= migrations.DaysAhead+1; n++ {
			p := migrations.Partition{Table: table, Name: dayName(table, day.AddDate(0, 0, n)), State: migrations.PartitionPresent}
			if n == migrations.DaysAhead+1 || table == "inbox" && n == 0 {
				p.State = migrations.PartitionCreated
			}
			want = append(want, p)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("CreatePartitions (-want +got):\n%s", diff)
	}
}

func TestADayWhoseRowsLieInTheDefaultPartitionStaysThere(t *testing.T) {
	t.Parallel()
	url := pgtest.URL(t)
	db := pgtest.DB(t, url)
	up(t, db)
	day := today(t, db)
	late, free := day.AddDate(0, 0, 8), day.AddDate(0, 0, 9)
	insert(t, db, lowestID(late))

	var notices []string
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }() // read to the end
	rows, err := conn.Query(t.Context(), `select state from walpost_create_partitions('outbox_events', $1, 2)`, late)
	if err != nil {
		t.Fatal(err)
	}
	states, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"in_default", "created"}, states); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if len(notices) != 1 || !strings.Contains(notices[0], dayName("outbox_events", late)) || !strings.Contains(notices[0], "outbox_events_default") {
		t.Errorf("notices = %q, want one that names partition and default partition", notices)
	}
	if exists(t, db, dayName("outbox_events", late)) || !exists(t, db, dayName("outbox_events", free)) {
		t.Errorf("partition of the occupied day there = %v, of the next = %v", exists(t, db, dayName("outbox_events", late)), exists(t, db, dayName("outbox_events", free)))
	}
	insert(t, db, before(lowestID(free))) // the default partition goes on taking the day
}

func TestATableWithAPartitionsNameIsLeftAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	name := dayName("outbox_events", today(t, db).AddDate(0, 0, 8))
	exec(t, db, `create table `+name+` ()`)
	got, err := migrations.CreatePartitions(t.Context(), db, 8)
	want := migrations.Partition{Table: "outbox_events", Name: name, State: migrations.PartitionNameTaken}
	if err != nil || !slices.Contains(got, want) {
		t.Errorf("CreatePartitions = %v, %v, want %v among them", got, err, want)
	}
}

func TestPartitionsAreMadeWhileWritersHoldTransactions(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	writer, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := outbox.Append(t.Context(), writer, outbox.Event{AggregateType: "a", AggregateID: "1", Type: "t"}); err != nil {
		t.Fatal(err)
	}
	var group errgroup.Group
	for range 5 { // at once: they take turns
		group.Go(func() error { _, err := migrations.CreatePartitions(t.Context(), db, 9); return err })
	}
	if err := group.Wait(); err != nil {
		t.Errorf("CreatePartitions beside an open writer: %v", err)
	}
	if err := writer.Commit(); err != nil {
		t.Errorf("the writer's commit: %v", err)
	}
}

func TestAWriterToTheDefaultPartitionDelaysItForABoundedTime(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	exec(t, db, `alter function walpost_create_partitions set lock_timeout = '20ms'`)
	writer, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Rollback() }() // nothing to keep
	foreign := outbox.Event{ID: outbox.EventID{0xff}, AggregateType: "a", AggregateID: "1", Type: "t"}
	if err := outbox.Append(t.Context(), writer, foreign); err != nil {
		t.Fatal(err)
	}
	_, err = migrations.CreatePartitions(t.Context(), db, 8)
	if sqlState(err) != "55P03" || !strings.Contains(err.Error(), "run `walpost maintain` again") {
		t.Errorf("CreatePartitions behind a writer to the default partition = %v, want a lock timeout that says what to do", err)
	}
}

func TestARowThatIsOnItsWayIntoTheDefaultPartitionIsSeen(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	day := today(t, db).AddDate(0, 0, 8)
	id, err := outbox.ParseID(lowestID(day))
	if err != nil {
		t.Fatal(err)
	}
	writer, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := outbox.Append(t.Context(), writer, outbox.Event{ID: id, AggregateType: "a", AggregateID: "1", Type: "t"}); err != nil {
		t.Fatal(err)
	}
	var got []migrations.Partition
	var group errgroup.Group
	group.Go(func() (err error) { got, err = migrations.CreatePartitions(t.Context(), db, 8); return err })
	waitForLock(t, db, "outbox_events_default")
	if err := writer.Commit(); err != nil {
		t.Fatal(err)
	}
	want := migrations.Partition{Table: "outbox_events", Name: dayName("outbox_events", day), State: migrations.PartitionInDefault}
	if err := group.Wait(); err != nil || !slices.Contains(got, want) {
		t.Errorf("CreatePartitions while a row of the day was being written = %v, %v, want %v among them", got, err, want)
	}
}

func TestPartitionsOfADatabaseThatWasNotMigratedNameTheCommandToRun(t *testing.T) {
	t.Parallel()
	_, err := migrations.CreatePartitions(t.Context(), pgtest.DB(t, pgtest.URL(t)), 1)
	if err == nil || !strings.Contains(err.Error(), "run `walpost migrate up` first") {
		t.Errorf("CreatePartitions of an empty database = %v", err)
	}
}

func TestOtherTablesAreRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	for _, statement := range []string{
		`select walpost_create_partitions('users', current_date, 1)`,
		`create table by_time (at timestamptz) partition by range (at); select walpost_create_partitions('by_time', current_date, 1)`,
	} {
		if _, err := db.ExecContext(t.Context(), statement); sqlState(err) != "42809" {
			t.Errorf("%s = %v, want wrong_object_type", statement, err)
		}
	}
}

func TestTheFunctionServesOtherSchemasAndOddNames(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	exec(t, db, `create schema "Odd schema"`)
	exec(t, db, `create table "Odd schema"."it's ""odd""" ("Msg id" uuid primary key) partition by range ("Msg id")`)
	exec(t, db, `create table "Odd schema"."rest" partition of "Odd schema"."it's ""odd""" default`)
	got := query[string](t, db, `select state from walpost_create_partitions('"Odd schema"."it''s ""odd"""', '2026-03-01', 2)`)
	if diff := cmp.Diff([]string{"created", "created"}, got); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if !exists(t, db, `"Odd schema"."it's ""odd""_20260302"`) {
		t.Error("the partition is not in the table's schema")
	}
}

// today is the day of the database's clock in UTC. A test that runs over midnight may fail; its database knows no other day.
func today(t *testing.T, db *sql.DB) time.Time {
	t.Helper()
	return query[time.Time](t, db, `select (now() at time zone 'utc')::date`)[0].UTC()
}

func dayName(table string, day time.Time) string { return table + day.Format("_20060102") }

// lowestID is the id whose first 48 bits are the day's first millisecond and whose others are zero.
func lowestID(day time.Time) string {
	hex := fmt.Sprintf("%012x", day.UnixMilli())
	return hex[:8] + "-" + hex[8:] + "-0000-0000-000000000000"
}

// before is the id just below one made by lowestID.
func before(lowest string) string {
	id, err := outbox.ParseID(lowest)
	if err != nil {
		panic(err)
	}
	for i := len(id) - 1; ; i-- {
		id[i]--
		if id[i] != 0xff {
			return id.String()
		}
	}
}

func insert(t *testing.T, db *sql.DB, id string) {
	t.Helper()
	exec(t, db, `insert into outbox_events (id, aggregate_type, aggregate_id, event_type) values ($1::text::uuid, 'a', '1', 't')`, id)
}

// waitForLock waits until somebody waits for a lock on the table.
func waitForLock(t *testing.T, db *sql.DB, table string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if query[bool](t, db, `select exists (select from pg_locks where relation = $1::text::regclass and not granted)`, table)[0] {
			return
		}
	}
	t.Fatalf("nobody waited for a lock on %s within 30 s", table)
}

func sqlState(err error) string {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return ""
	}
	return pgErr.Code
}
