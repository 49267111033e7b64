package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/postgres"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func registration(email app.Email) app.Registration {
	return app.Registration{
		UserID:         app.UserID{UUID: uuid.Must(uuid.NewV7())},
		NotificationID: app.NotificationID{UUID: uuid.New()},
		Email:          email,
		PasswordHash:   "$argon2id$…",
	}
}

func setup(t *testing.T) (*postgres.Store, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	return postgres.New(pool, outboxpgx.Appender{}), pool
}

func mustRegister(t *testing.T, store *postgres.Store, r app.Registration) {
	t.Helper()
	if err := store.Register(t.Context(), r); err != nil {
		t.Fatalf("Register(%s) = %v", r.Email, err)
	}
}

// column runs a query of one text column.
func column(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return values
}

// counts are the rows of users, notifications and events.
func counts(t *testing.T, pool *pgxpool.Pool) [3]int {
	t.Helper()
	var n [3]int
	err := pool.QueryRow(t.Context(), `select (select count(*) from users), (select count(*) from notifications), (select count(*) from outbox_events)`).
		Scan(&n[0], &n[1], &n[2])
	if err != nil {
		t.Fatalf("count rows: %v", err)
	}
	return n
}

func TestRegisterWritesUserNotificationAndEvent(t *testing.T) {
	t.Parallel()
	store, pool := setup(t)
	first, second := registration("ada@example.com"), registration("ada@example.com")
	mustRegister(t, store, first)
	mustRegister(t, store, second)

	users := column(t, pool, `select id::text || ' ' || email || ' ' || password_hash from users`)
	if diff := cmp.Diff([]string{first.UserID.String() + " ada@example.com $argon2id$…"}, users); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	notifications := column(t, pool, `select concat_ws(' ', id, user_id, kind, state) from notifications order by created_at`)
	if diff := cmp.Diff([]string{
		first.NotificationID.String() + " " + first.UserID.String() + " welcome PENDING",
		second.NotificationID.String() + " " + first.UserID.String() + " already_registered PENDING",
	}, notifications); diff != "" {
		t.Errorf("notifications (-want +got):\n%s", diff)
	}
	events := column(t, pool, `select concat_ws(' ', event_type, aggregate_type, aggregate_id, payload) from outbox_events order by id`)
	const prefix = "notif.user.registration user "
	payload := func(n app.NotificationID, kind app.Kind) string {
		text, err := json.Marshal(app.Announcement{NotificationID: n, UserID: first.UserID, Kind: kind, Email: "ada@example.com"})
		if err != nil {
			t.Fatal(err)
		}
		return prefix + first.UserID.String() + " " + string(text)
	}
	if diff := cmp.Diff([]string{
		payload(first.NotificationID, app.KindWelcome), payload(second.NotificationID, app.KindAlreadyRegistered),
	}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// Without its event there is no user, and no notification: neither the first time nor for a known address.
func TestRegisterLeavesNothingWhenTheEventFails(t *testing.T) {
	t.Parallel()
	store, pool := setup(t)
	broken := postgres.New(pool, outboxpgx.Appender{Table: "no_such_table"})
	if err := broken.Register(t.Context(), registration("ada@example.com")); err == nil {
		t.Fatal("Register without an outbox table = nil, want an error")
	}
	if got := counts(t, pool); got != [3]int{} {
		t.Errorf("users, notifications, events = %v, want none", got)
	}
	mustRegister(t, store, registration("ada@example.com"))
	if err := broken.Register(t.Context(), registration("ada@example.com")); err == nil {
		t.Fatal("Register without an outbox table = nil, want an error")
	}
	if got := counts(t, pool); got != [3]int{1, 1, 1} {
		t.Errorf("users, notifications, events = %v, want one of each", got)
	}
}

// tracer notes the SQL text of every statement.
type tracer struct {
	mu   sync.Mutex // guards seen
	seen []string
}

func (tr *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.seen = append(tr.seen, data.SQL)
	return ctx
}

func (tr *tracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (tr *tracer) take() []string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	seen := tr.seen
	tr.seen = nil
	return seen
}

// The work must not tell whether the address is known.
func TestRegisterRunsTheSameStatementsForAKnownAddress(t *testing.T) {
	t.Parallel()
	cfg, err := pgxpool.ParseConfig(pgtest.Migrated(t))
	if err != nil {
		t.Fatal(err)
	}
	tr := new(tracer)
	cfg.ConnConfig.Tracer = tr
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	store := postgres.New(pool, outboxpgx.Appender{})
	mustRegister(t, store, registration("ada@example.com"))
	unknown := tr.take()
	mustRegister(t, store, registration("ada@example.com"))
	if diff := cmp.Diff(unknown, tr.take()); diff != "" || len(unknown) != 6 {
		t.Errorf("statements for an unknown address %q, and what differs for a known one (-unknown +known):\n%s", unknown, diff)
	}
}

func TestRegisterOfOneAddressAtOnceMakesOneUser(t *testing.T) {
	t.Parallel()
	store, pool := setup(t)
	const crowd = 20
	results := make(chan error, crowd)
	for range crowd {
		go func() { results <- store.Register(t.Context(), registration("ada@example.com")) }()
	}
	for range crowd {
		if err := <-results; err != nil {
			t.Errorf("Register = %v", err)
		}
	}
	if got := counts(t, pool); got != [3]int{1, crowd, crowd} {
		t.Errorf("users, notifications, events = %v, want 1, %d, %d", got, crowd, crowd)
	}
	welcomes := column(t, pool, `select kind from notifications where kind = 'welcome'`)
	if len(welcomes) != 1 {
		t.Errorf("%d welcomes, want 1", len(welcomes))
	}
}

func TestNotificationShowsItsState(t *testing.T) {
	t.Parallel()
	store, pool := setup(t)
	r := registration("ada@example.com")
	mustRegister(t, store, r)
	pending, err := store.Notification(t.Context(), r.NotificationID)
	if err != nil || time.Since(pending.CreatedAt).Abs() > time.Minute {
		t.Fatalf("Notification = %+v, %v, want one made now", pending, err)
	}
	want := app.Notification{ID: r.NotificationID, State: app.StatePending, CreatedAt: pending.CreatedAt}
	if diff := cmp.Diff(want, pending); diff != "" {
		t.Errorf("pending notification (-want +got):\n%s", diff)
	}
	at := time.Date(2026, 3, 1, 9, 30, 0, 41027000, time.UTC)
	for _, step := range []struct {
		sql  string
		want app.Notification
	}{
		{
			`update notifications set state = 'FAILED', failed_at = $1, failure = 'refused'`,
			app.Notification{ID: r.NotificationID, State: app.StateFailed, CreatedAt: pending.CreatedAt, FailedAt: at, Failure: "refused"},
		},
		{
			`update notifications set state = 'SENT', sent_at = $1, failed_at = null, failure = null`,
			app.Notification{ID: r.NotificationID, State: app.StateSent, CreatedAt: pending.CreatedAt, SentAt: at},
		},
	} {
		if _, err := pool.Exec(t.Context(), step.sql, at); err != nil {
			t.Fatal(err)
		}
		got, err := store.Notification(t.Context(), r.NotificationID)
		if err != nil {
			t.Fatalf("Notification = %v", err)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("notification after %q (-want +got):\n%s", step.sql, diff)
		}
	}
}

func TestNotificationOfAnUnknownID(t *testing.T) {
	t.Parallel()
	store, _ := setup(t)
	if _, err := store.Notification(t.Context(), app.NotificationID{UUID: uuid.New()}); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("Notification(unknown) = %v, want ErrNotFound", err)
	}
}

// On a server of its own, which is killed: a connection that breaks and one that is refused are both an outage, a client that
// leaves is none, and the store works again when the database does.
func TestErrorsOfADatabaseThatIsDown(t *testing.T) {
	t.Parallel()
	server := pgtest.StartServer(t)
	pool := pgtest.Pool(t, server.Migrated(t))
	store := postgres.New(pool, outboxpgx.Appender{})
	known := registration("ada@example.com")
	mustRegister(t, store, known)
	server.Kill9(t)
	for _, when := range []string{"the connection breaks", "the connection is refused"} {
		if err := store.Register(t.Context(), registration("grace@example.com")); !errors.Is(err, app.ErrUnavailable) {
			t.Errorf("Register when %s = %v, want ErrUnavailable", when, err)
		}
	}
	if _, err := store.Notification(t.Context(), known.NotificationID); !errors.Is(err, app.ErrUnavailable) {
		t.Errorf("Notification = %v, want ErrUnavailable", err)
	}
	left, leave := context.WithCancel(t.Context())
	leave()
	if err := store.Register(left, registration("grace@example.com")); !errors.Is(err, context.Canceled) || errors.Is(err, app.ErrUnavailable) {
		t.Errorf("Register(cancelled) = %v, want context.Canceled alone", err)
	}
	server.Start(t)
	mustRegister(t, store, registration("grace@example.com"))
	if got := counts(t, pool); got != [3]int{2, 2, 2} {
		t.Errorf("users, notifications, events = %v, want two of each", got)
	}
}
