package notify_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/outbox"
)

func TestHandlerRecordsTheMailOnceAnEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	notification := b.notification(app.KindWelcome)
	id := outbox.NewID()
	m := message(id, payload(t, notification, app.KindWelcome, "Ada@EXAMPLE.com"))
	// The second time stands for an event that comes again after the inbox has forgotten it.
	for range 2 {
		if err := b.handle(m); err != nil {
			t.Fatalf("Handler = %v", err)
		}
	}
	got := b.text(`select string_agg(concat_ws(' ', id, notification_id, recipient, kind, state, attempts), ';') from mail_effects`)
	want := id.String() + " " + notification.String() + " Ada@example.com welcome pending 0"
	if got != want {
		t.Errorf("mail_effects = %q, want %q", got, want)
	}
}

func TestHandlerTakesMembersOfNewerProducers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	text := payload(t, b.notification(app.KindWelcome), app.KindWelcome, "ada@example.com")
	if err := b.handle(message(outbox.NewID(), strings.Replace(text, "{", `{"language":"eo",`, 1))); err != nil {
		t.Errorf("Handler(unknown member) = %v, want nil", err)
	}
}

func TestHandlerRefusesForGood(t *testing.T) {
	t.Parallel()
	b := setup(t)
	good := payload(t, b.notification(app.KindWelcome), app.KindWelcome, "ada@example.com")
	replace := func(old, with string) *inbox.Message {
		if !strings.Contains(good, old) {
			t.Fatalf("%s lacks %s", good, old)
		}
		return message(outbox.NewID(), strings.Replace(good, old, with, 1))
	}
	noID := message(outbox.NewID(), good)
	noID.ID = "4711"
	for name, m := range map[string]*inbox.Message{
		"a tombstone":                     message(outbox.NewID(), ""),
		"a payload that is no JSON":       message(outbox.NewID(), "{"),
		"a payload that is no object":     message(outbox.NewID(), "[]"),
		"an empty object":                 message(outbox.NewID(), "{}"),
		"an unknown kind":                 replace(`"welcome"`, `"goodbye"`),
		"an address that is none":         replace("ada@example.com", "ada"),
		"an address that injects headers": replace("ada@example.com", `ada@example.com\r\nBcc: eve@example.com`),
		"an id that is no UUID":           replace(`"notification_id":"`, `"notification_id":"x`),
		"an event id that is no UUID":     noID,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := b.handle(m); !inbox.IsPermanent(err) {
				t.Errorf("Handler = %v, want a permanent error", err)
			}
		})
	}
	t.Run("but not a notification that may become visible", func(t *testing.T) {
		t.Parallel()
		m := message(outbox.NewID(), payload(t, uuid.New(), app.KindWelcome, "ada@example.com"))
		if err := b.handle(m); !inbox.IsTransient(err) {
			t.Errorf("Handler = %v, want a transient error", err)
		}
	})
	t.Run("but not what the database may take later", func(t *testing.T) {
		t.Parallel()
		tx, err := b.pool.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }() // it is over, or nothing was written
		left, leave := context.WithCancel(t.Context())
		leave()
		m := message(outbox.NewID(), good)
		if err := inboxHandler(left, tx, m); err == nil || inbox.IsPermanent(err) {
			t.Errorf("Handler(cancelled) = %v, want an error that is not permanent", err)
		}
	})
}
