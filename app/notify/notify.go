// Package notify turns the event of a registration into a mail.
//
// It has two halves that meet in the table mail_effects. Handler runs in the consumer's transaction and records the mail, once
// an event; it sends nothing. Worker sends what is recorded and writes what became of it. The invariants: a mail is recorded if
// and only if its event was applied; it is sent at least once, never knowingly twice by workers that are alive; all copies of a
// mail bear one Message-ID, made of the event's id, so that a copy can be told.
package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/outbox"
)

// codeMalformed is the code of the dead letters that Handler makes.
const codeMalformed = "malformed_payload"

// channel is what Handler notifies and Worker listens to.
const channel = "mail_effects"

// Handler applies the event app.UserRegistered: it records the mail under the event's id and wakes the workers. It is an
// inbox.TxHandler. A payload that is no announcement is permanent; a notification that is not there is transient, because the
// event can be faster than the commit that it tells of.
func Handler(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
	id, err := outbox.ParseID(m.ID)
	if err != nil {
		return inbox.Permanent(fmt.Errorf("read the event id: %w", err), codeMalformed)
	}
	a, err := announcement(m.Payload)
	if err != nil {
		return inbox.Permanent(fmt.Errorf("read event %s: %w", id, err), codeMalformed)
	}
	// The inbox has seen to it that this is the event's first time, for as long as it remembers. The row's own key remembers
	// longer: an event that comes again after that finds the mail there and wakes nobody.
	_, err = tx.Exec(ctx, `
		with recorded as (
			insert into mail_effects (id, notification_id, recipient, kind) values ($1, $2, $3, $4) on conflict (id) do nothing returning id
		)
		select pg_notify($5, '') from recorded`,
		id, a.NotificationID, string(a.Email), string(a.Kind), channel)
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == "23503" {
		// The writer flushes its commit record; the relay reads it, Kafka and the consumer pass it on; only then does the writer, on a busy
		// machine, come to make its rows visible to others. Seen with a registration that was handled before its notification was there.
		return inbox.Transient(fmt.Errorf("record the mail of event %s: notification %s is not visible (yet): %w", id, a.NotificationID, err))
	}
	if err != nil {
		return fmt.Errorf("record the mail of event %s: %w", id, err)
	}
	return nil
}

// announcement reads a payload and trusts nothing in it: whoever may write to the topic may have made it. Members it does not
// know are left to newer consumers.
func announcement(payload []byte) (app.Announcement, error) {
	var a app.Announcement
	if err := json.Unmarshal(payload, &a); err != nil {
		return app.Announcement{}, err
	}
	if !a.Kind.Valid() {
		return app.Announcement{}, errors.New("the kind is not known")
	}
	email, err := app.ParseEmail(string(a.Email))
	if err != nil {
		return app.Announcement{}, err
	}
	a.Email = email
	return a, nil
}
