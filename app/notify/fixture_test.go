package notify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/notify"
	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/record"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// patience bounds every wait of these tests.
const patience = time.Minute

// bundle is a migrated database with what the tests do to it.
type bundle struct {
	t    *testing.T
	pool *pgxpool.Pool
}

func setup(t *testing.T) *bundle {
	t.Helper()
	return &bundle{t, pgtest.Pool(t, pgtest.Migrated(t))}
}

func (b *bundle) exec(sql string, args ...any) {
	b.t.Helper()
	if _, err := b.pool.Exec(context.WithoutCancel(b.t.Context()), sql, args...); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
}

// text runs a query of one text value.
func (b *bundle) text(sql string, args ...any) string {
	b.t.Helper()
	var s string
	if err := b.pool.QueryRow(context.WithoutCancel(b.t.Context()), sql, args...).Scan(&s); err != nil {
		b.t.Fatalf("%s: %v", sql, err)
	}
	return s
}

// notification writes a user and a notification, as a registration does.
func (b *bundle) notification(kind app.Kind) uuid.UUID {
	b.t.Helper()
	user, id := uuid.Must(uuid.NewV7()), uuid.New()
	b.exec(`insert into users (id, email, password_hash) values ($1, $2, '')`, user, user.String()+"@example.com")
	b.exec(`insert into notifications (id, user_id, kind) values ($1, $2, $3)`, id, user, string(kind))
	return id
}

// message is the event of a registration as the consumer gets it.
func message(id outbox.EventID, payload string) *inbox.Message {
	return &inbox.Message{Message: record.Message{ID: id.String(), Type: app.UserRegistered, Payload: []byte(payload)}}
}

func payload(t *testing.T, notification uuid.UUID, kind app.Kind, email string) string {
	t.Helper()
	text, err := json.Marshal(app.Announcement{NotificationID: app.NotificationID{UUID: notification}, Kind: kind, Email: app.Email(email)})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// handle runs the handler in a transaction of its own, as the consumer does.
func (b *bundle) handle(m *inbox.Message) error {
	return pgx.BeginFunc(b.t.Context(), b.pool, func(tx pgx.Tx) error { return notify.Handler(b.t.Context(), tx, m) })
}

// record makes the mail of a registration due and returns the event's id.
func (b *bundle) record(kind app.Kind) outbox.EventID {
	b.t.Helper()
	id := outbox.NewID()
	if err := b.handle(message(id, payload(b.t, b.notification(kind), kind, "ada@example.com"))); err != nil {
		b.t.Fatalf("Handler = %v", err)
	}
	return id
}

// state is what the tables say about a mail.
func (b *bundle) state(id outbox.EventID) string {
	b.t.Helper()
	return b.text(`select concat_ws(' ', e.state, e.attempts, n.state, n.failure) from mail_effects e join notifications n on n.id = e.notification_id where e.id = $1`, id)
}

// wait waits for the state of a mail.
func (b *bundle) wait(id outbox.EventID, want string) {
	b.t.Helper()
	b.waitFor(id, want, func(got string) bool { return got == want })
}

// waitFor waits until the state of a mail is one of several.
func (b *bundle) waitFor(id outbox.EventID, want string, holds func(state string) bool) {
	b.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); ; <-ticker.C {
		got := b.state(id)
		if holds(got) {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("mail %s is %q after %s, want %q", id, got, patience, want)
		}
	}
}

// receive takes from a channel.
func receive[T any](t *testing.T, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatalf("waited %s in vain for: %s", patience, what)
	}
	return v
}

// quick is a configuration whose pauses are short.
func quick(addr string) notify.Config {
	return notify.Config{
		SMTP:       notify.SMTP{Addr: addr, From: "walpost <noreply@walpost.example>"},
		BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond, Poll: 10 * time.Millisecond,
	}
}

// running is a worker that runs until the test ends, or stop.
type running struct {
	t      *testing.T
	log    *lockedBuffer
	cancel context.CancelFunc
	done   chan error
}

func run(t *testing.T, pool *pgxpool.Pool, cfg notify.Config) *running {
	t.Helper()
	r := &running{t: t, log: new(lockedBuffer), done: make(chan error, 1)}
	cfg.Logger = slog.New(slog.NewTextHandler(r.log, nil))
	w, err := notify.New(pool, cfg)
	if err != nil {
		t.Fatalf("New = %v", err)
	}
	w.RecordFor(patience) // whether an outcome is written down must not depend on how busy the machine is
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() { r.done <- w.Run(ctx) }()
	t.Cleanup(func() { r.stop() })
	return r
}

// stop ends the worker, checks what must hold of each, and returns how long ending took.
func (r *running) stop() time.Duration {
	r.t.Helper()
	if r.cancel == nil {
		return 0
	}
	begin := time.Now()
	r.cancel()
	r.cancel = nil
	select {
	case err := <-r.done:
		if err != nil {
			r.t.Errorf("Run = %v, want nil", err)
		}
	case <-time.After(patience):
		r.t.Errorf("Run has not returned %s after its context ended", patience)
	}
	if log := r.log.String(); strings.Contains(log, "ada@") {
		r.t.Errorf("the log tells an address:\n%s", log)
	}
	return time.Since(begin)
}

type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// ids are the Message-IDs of mails.
func ids(mails []received) []string {
	all := make([]string, len(mails))
	for i, m := range mails {
		all[i] = m.header.Get("Message-ID")
	}
	return all
}

func messageID(id outbox.EventID) string { return fmt.Sprintf("<%s@walpost.example>", id) }
