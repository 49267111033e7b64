package devstack

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	listedEvents   = 50
	listedPayload  = 300      // characters of a payload in the list
	shownPayload   = 64 << 10 // and on the event's own page
	foreignIDAhead = 24 * time.Hour
)

// eventRow is what PostgreSQL knows of one event: its outbox row, and what the consumer made of it.
type eventRow struct {
	ID             string
	Type           string
	AggregateType  *string
	AggregateID    string
	Payload        *string // nil: a tombstone
	PayloadBytes   *int
	AppendedAt     time.Time
	AppliedAt      *time.Time
	MailState      *string
	Attempts       *int
	Recipient      *string
	MailSentAt     *time.Time
	NotificationID *string
	Notification   *string
	NotifiedAt     *time.Time
}

// eventColumns selects an eventRow for ids from a table expression named wanted; $1 is the group, $2 the characters of payload.
const eventColumns = `
	select e.id::text, e.event_type as type, e.aggregate_type, e.aggregate_id,
		left(e.payload::text, $2) as payload, octet_length(e.payload::text) as payload_bytes, e.created_at as appended_at,
		i.seen_at as applied_at, m.state as mail_state, m.attempts, m.recipient, m.sent_at as mail_sent_at,
		n.id::text as notification_id, n.state as notification, n.sent_at as notified_at
	from wanted join outbox_events e using (id)
		left join inbox i on i.msg_id = e.id and i.consumer = (select c.id from inbox_consumer c where c.name = $1)
		left join mail_effects m on m.id = e.id
		left join notifications n on n.id = m.notification_id
	order by e.created_at desc, e.id desc`

// newestEvents lists the last events. Ids of our own making are in time order; others, such as gen_random_uuid() of somebody who tries things
// out in psql, lie in the default partition and would stand at the top for ever, so they are looked for by time.
func newestEvents(ctx context.Context, pool *pgxpool.Pool, group string) ([]eventRow, error) {
	rows, err := pool.Query(ctx, `
		with wanted as (
			(select id from outbox_events where id < $3 order by id desc limit $4)
			union
			(select id from outbox_events_default order by created_at desc limit $4)
		)`+eventColumns+` limit $4`, group, listedPayload, firstIDAt(time.Now().Add(foreignIDAhead)), listedEvents)
	if err != nil {
		return nil, fmt.Errorf("last events: %w", err)
	}
	events, err := pgx.CollectRows(rows, pgx.RowToStructByName[eventRow])
	if err != nil {
		return nil, fmt.Errorf("last events: %w", err)
	}
	return events, nil
}

// oneEvent returns the event with the id; false when there is none.
func oneEvent(ctx context.Context, pool *pgxpool.Pool, group string, id uuid.UUID) (eventRow, bool, error) {
	rows, err := pool.Query(ctx, `with wanted as (select $3::uuid as id)`+eventColumns, group, shownPayload, id)
	if err != nil {
		return eventRow{}, false, fmt.Errorf("event %s: %w", id, err)
	}
	row, err := pgx.CollectOneRow(rows, pgx.RowToStructByName[eventRow])
	if errors.Is(err, pgx.ErrNoRows) {
		return eventRow{}, false, nil
	}
	if err != nil {
		return eventRow{}, false, fmt.Errorf("event %s: %w", id, err)
	}
	return row, true, nil
}

// firstIDAt is the lowest UUIDv7 of a millisecond: 48 bits of time, then the version.
func firstIDAt(at time.Time) uuid.UUID {
	var id uuid.UUID
	for i, ms := 5, at.UnixMilli(); i >= 0; i-- {
		id[i] = byte(ms)
		ms >>= 8
	}
	id[6] = 0x70
	return id
}

// Counts is how much has come to each place in PostgreSQL.
type Counts struct {
	Registrations int64      `json:"registrations"` // accepted by the API: each makes a notification
	OutboxRows    int64      `json:"outbox_rows"`
	Applied       int64      `json:"applied"` // messages with an inbox row, of every group: applied, or set aside as a dead letter
	Sent          int64      `json:"sent"`    // notifications in each state
	Pending       int64      `json:"pending"`
	Failed        int64      `json:"failed"`
	OldestPending *time.Time `json:"oldest_pending,omitempty"`
}

func counts(ctx context.Context, pool *pgxpool.Pool) (Counts, error) {
	rows, err := pool.Query(ctx, `
		select count(*) as registrations, (select count(*) from outbox_events) as outbox_rows, (select count(*) from inbox) as applied,
			count(*) filter (where state = 'SENT') as sent, count(*) filter (where state = 'PENDING') as pending,
			count(*) filter (where state = 'FAILED') as failed, min(created_at) filter (where state = 'PENDING') as oldest_pending
		from notifications`)
	if err != nil {
		return Counts{}, fmt.Errorf("counts: %w", err)
	}
	c, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[Counts])
	if err != nil {
		return Counts{}, fmt.Errorf("counts: %w", err)
	}
	return c, nil
}

// Slot is the state of the relay's replication slot.
type Slot struct {
	Name      string `json:"name"`
	Active    bool   `json:"active"`
	WALStatus string `json:"wal_status"` // reserved, extended, unreserved or lost; "" when there is no slot
	Confirmed string `json:"confirmed_lsn"`
	Behind    int64  `json:"behind_bytes"`   // written to the log and not yet confirmed by the relay
	Retained  int64  `json:"retained_bytes"` // of log that PostgreSQL keeps for the slot
}

// readSlot returns the slot, without a WALStatus when there is none of that name.
func readSlot(ctx context.Context, pool *pgxpool.Pool, name string) (Slot, error) {
	rows, err := pool.Query(ctx, `
		select slot_name::text as name, active, coalesce(wal_status, '') as wal_status, coalesce(confirmed_flush_lsn::text, '') as confirmed,
			coalesce(pg_current_wal_lsn() - confirmed_flush_lsn, 0)::bigint as behind, coalesce(pg_current_wal_lsn() - restart_lsn, 0)::bigint as retained
		from pg_replication_slots where slot_name = $1`, name)
	if err != nil {
		return Slot{}, fmt.Errorf("replication slot: %w", err)
	}
	slot, err := pgx.CollectOneRow(rows, pgx.RowToStructByName[Slot])
	if errors.Is(err, pgx.ErrNoRows) {
		return Slot{Name: name}, nil
	}
	if err != nil {
		return Slot{}, fmt.Errorf("replication slot: %w", err)
	}
	return slot, nil
}

// Verdict is the slot's state in one sentence.
func (s Slot) Verdict() string {
	switch {
	case s.WALStatus == "":
		return "There is no slot " + s.Name + " yet: the relay makes it when it first connects."
	case s.WALStatus == "lost":
		return "The slot has lost log that the relay still needs: events are missing, start anew with walpost dev --reset."
	case !s.Active:
		return "Nobody reads the slot: the relay is not connected, and PostgreSQL keeps " + byteSize(s.Retained) + " of log for it."
	case s.WALStatus == "unreserved":
		return "The relay reads, but the slot may soon lose log: it is " + byteSize(s.Behind) + " behind."
	case s.Behind > 1<<20:
		return "The relay reads and is " + byteSize(s.Behind) + " of log behind."
	default:
		return "The relay reads and has confirmed the log up to " + s.Confirmed + "."
	}
}

// Healthy reports whether a relay reads the slot and nothing it needs is in danger.
func (s Slot) Healthy() bool {
	return s.Active && s.WALStatus != "lost" && s.WALStatus != "unreserved"
}

func byteSize(n int64) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10_000_000:
		return fmt.Sprintf("%d kB", n/1000)
	default:
		return fmt.Sprintf("%d MB", n/1_000_000)
	}
}
