// Package postgres keeps users and notifications in PostgreSQL.
//
// It is the only writer of users and of new notifications; what becomes of a notification is written by app/notify. Its
// invariant: a notification, the event that announces it and, for a new address, the user are one transaction. The tables are
// those of the application's migrations.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

// Store implements app.Store. It is made by New and safe for concurrent use.
type Store struct {
	pool     *pgxpool.Pool
	appender outboxpgx.Appender
}

var _ app.Store = (*Store)(nil)

// New returns a Store over the pool, which stays the caller's. Events go through the appender; its zero value will do.
func New(pool *pgxpool.Pool, appender outboxpgx.Appender) *Store {
	return &Store{pool: pool, appender: appender}
}

// Register records a registration in one transaction. When the connection is lost during the commit the outcome is unknown
// and the error wraps app.ErrUnavailable: registering again is right, at worst the owner gets a second mail.
func (s *Store) Register(ctx context.Context, r app.Registration) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		announcement, err := insert(ctx, tx, r)
		if err != nil {
			return err
		}
		event, err := announcement.Event()
		if err != nil {
			return err
		}
		return s.appender.Append(ctx, tx, event)
	})
	if err != nil {
		return fmt.Errorf("register user %s: %w", r.UserID, available(err))
	}
	return nil
}

// insert writes the user, if there is none with this address, and the notification. It runs the same statements either way.
func insert(ctx context.Context, tx pgx.Tx, r app.Registration) (app.Announcement, error) {
	tag, err := tx.Exec(ctx, `insert into users (id, email, password_hash) values ($1, $2, $3) on conflict (email) do nothing`,
		r.UserID, string(r.Email), r.PasswordHash)
	if err != nil {
		return app.Announcement{}, fmt.Errorf("insert user: %w", err)
	}
	// The insert has waited for a concurrent registration of the same address, so that row is visible to this statement.
	var owner uuid.UUID
	if err := tx.QueryRow(ctx, `select id from users where email = $1`, string(r.Email)).Scan(&owner); err != nil {
		return app.Announcement{}, fmt.Errorf("find the address's user: %w", err)
	}
	a := app.Announcement{
		NotificationID: r.NotificationID, UserID: app.UserID{UUID: owner}, Kind: app.KindWelcome, Email: r.Email,
	}
	if tag.RowsAffected() == 0 {
		a.Kind = app.KindAlreadyRegistered
	}
	_, err = tx.Exec(ctx, `insert into notifications (id, user_id, kind) values ($1, $2, $3)`, a.NotificationID, a.UserID, string(a.Kind))
	if err != nil {
		return app.Announcement{}, fmt.Errorf("insert notification: %w", err)
	}
	return a, nil
}

// Notification reads one notification.
func (s *Store) Notification(ctx context.Context, id app.NotificationID) (app.Notification, error) {
	n := app.Notification{ID: id}
	var sent, failed *time.Time
	var failure *string
	err := s.pool.QueryRow(ctx, `select state, created_at, sent_at, failed_at, failure from notifications where id = $1`, id).
		Scan(&n.State, &n.CreatedAt, &sent, &failed, &failure)
	if errors.Is(err, pgx.ErrNoRows) {
		return app.Notification{}, fmt.Errorf("notification %s: %w", id, app.ErrNotFound)
	}
	if err != nil {
		return app.Notification{}, fmt.Errorf("notification %s: %w", id, available(err))
	}
	n.SentAt, n.FailedAt, n.Failure = orZero(sent), orZero(failed), orZero(failure)
	return n, nil
}

func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// available joins app.ErrUnavailable to an error that says that the database, not the request, is the trouble.
func available(err error) error {
	if errors.Is(err, context.Canceled) || !outage(err) {
		return err
	}
	return errors.Join(app.ErrUnavailable, err)
}

// outage reports a connection that could not be made or was lost, or an SQLSTATE of class 08 (connection), 53 (resources), 57P
// (shutdown) or 25006 (read-only: what was the primary has become a standby).
func outage(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		code := pgErr.Code
		return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57P") || code == "25006"
	}
	_, connect := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	return connect || network || pgconn.SafeToRetry(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
