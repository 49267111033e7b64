package devstack

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// queryTimeout bounds what the page waits for PostgreSQL and for the broker, so that it can say which of them does not answer.
const queryTimeout = 2 * time.Second

// Sources is where the page reads.
type Sources struct {
	Pool            *pgxpool.Pool
	Topics          *TopicReader
	Mails           *MailSink
	Slot            string // of the relay
	Group           string // of the consumer
	DeadLetterTopic string
	RunsOn          string // the broker and who carries the events, in words
}

// Status is what the page shows, and /status.json serves.
type Status struct {
	Time     time.Time `json:"time"`
	Version  string    `json:"version"`
	Counts   Counts    `json:"counts"`
	Slot     Slot      `json:"slot"`
	Verdict  string    `json:"slot_verdict"`
	Kafka    Kafka     `json:"kafka"`
	Mails    int       `json:"mails"`  // that came to the sink since it began
	Events   []Event   `json:"events"` // the last ones, newest first
	Problems []string  `json:"problems"`
}

// Kafka is how much the broker holds.
type Kafka struct {
	Records     int64       `json:"records"` // of all topics but the dead letters
	DeadLetters int64       `json:"dead_letters"`
	Topics      []TopicSize `json:"topics"`
}

// State is how far an event has come, as one word for people and tests.
type State string

// The states, in the order in which an event goes through them; the last two are the bad ends.
const (
	Appended   State = "appended"  // in the outbox table
	Published  State = "published" // in Kafka
	Applied    State = "applied"   // by the consumer, in its database
	Delivered  State = "delivered" // its mail has gone out and the notification is SENT
	Failed     State = "failed"    // its mail was given up
	DeadLetter State = "dead letter"
)

// Event is the way of one event. Text in it is whatever its writer wrote: show it, never interpret it.
type Event struct {
	ID             string     `json:"id"`
	Type           string     `json:"type"`
	AggregateType  string     `json:"aggregate_type,omitempty"`
	AggregateID    string     `json:"aggregate_id"`
	Payload        *string    `json:"payload"` // cut to what is shown; null: a tombstone
	PayloadBytes   int        `json:"payload_bytes"`
	State          State      `json:"state"`
	AppendedAt     time.Time  `json:"appended_at"`
	CommittedAt    *time.Time `json:"committed_at,omitempty"`
	LSN            string     `json:"lsn,omitempty"`
	Topic          string     `json:"topic,omitempty"` // "": not seen in Kafka
	Partition      int32      `json:"partition"`
	Offset         int64      `json:"offset"`
	Copies         int        `json:"copies"`
	PublishedAt    *time.Time `json:"published_at,omitempty"`
	AppliedAt      *time.Time `json:"applied_at,omitempty"` // seen_at of the inbox
	Recipient      string     `json:"recipient,omitempty"`
	MailState      string     `json:"mail_state,omitempty"`
	MailAttempts   int        `json:"mail_attempts"`
	MailNumber     int        `json:"mail_number,omitempty"` // in the sink; 0: not or no longer there
	SentAt         *time.Time `json:"sent_at,omitempty"`
	NotificationID string     `json:"notification_id,omitempty"`
	Notification   string     `json:"notification_state,omitempty"`
	DeadLetter     string     `json:"dead_letter,omitempty"`
	TotalMillis    *float64   `json:"total_ms"` // from the append to the last hop known; null while it is only appended
}

// Status gathers everything but the version. A source that does not answer is named in Problems, and the others are shown all the same.
func (s Sources) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	st := Status{Time: time.Now(), Problems: []string{}, Events: []Event{}}
	_, st.Mails = s.Mails.Mails()
	if err := s.readDatabase(ctx, &st); err != nil {
		st.Problems = append(st.Problems, "PostgreSQL: "+err.Error())
		st.Verdict = "The slot's state is not known: PostgreSQL does not answer."
	}
	sizes, err := s.Topics.Sizes(ctx)
	if err != nil {
		st.Problems = append(st.Problems, "Broker: "+err.Error())
	}
	st.Kafka.Topics = sizes
	for _, size := range sizes {
		if size.Topic == s.DeadLetterTopic {
			st.Kafka.DeadLetters = size.Records
			continue
		}
		st.Kafka.Records += size.Records
	}
	return st
}

func (s Sources) readDatabase(ctx context.Context, st *Status) (err error) {
	if st.Counts, err = counts(ctx, s.Pool); err != nil {
		return err
	}
	if st.Slot, err = readSlot(ctx, s.Pool, s.Slot); err != nil {
		return err
	}
	st.Verdict = st.Slot.Verdict()
	rows, err := newestEvents(ctx, s.Pool, s.Group)
	if err != nil {
		return err
	}
	mails := s.mailNumbers()
	for _, row := range rows {
		st.Events = append(st.Events, s.event(row, mails))
	}
	return nil
}

// find returns the event with the id; false when there is none.
func (s Sources) find(ctx context.Context, id uuid.UUID) (Event, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	row, found, err := oneEvent(ctx, s.Pool, s.Group, id)
	if err != nil || !found {
		return Event{}, false, err
	}
	return s.event(row, s.mailNumbers()), true, nil
}

// mailNumbers finds the mails by the first part of their Message-ID, which is the event's id; a mail that came twice counts as the first.
func (s Sources) mailNumbers() map[string]int {
	kept, _ := s.Mails.Mails()
	numbers := make(map[string]int, len(kept))
	for _, m := range kept { // newest first, so that the oldest is written last
		id, _, _ := strings.Cut(m.MessageID, "@")
		numbers[id] = m.Number
	}
	return numbers
}

// event joins what PostgreSQL, Kafka and the sink know of one event.
func (s Sources) event(row eventRow, mails map[string]int) Event {
	e := Event{
		ID: row.ID, Type: row.Type, AggregateType: deref(row.AggregateType), AggregateID: row.AggregateID,
		Payload: row.Payload, PayloadBytes: deref(row.PayloadBytes), AppendedAt: row.AppendedAt, AppliedAt: row.AppliedAt,
		Recipient: deref(row.Recipient), MailState: deref(row.MailState), MailAttempts: deref(row.Attempts), SentAt: row.MailSentAt,
		NotificationID: deref(row.NotificationID), Notification: deref(row.Notification), MailNumber: mails[row.ID],
	}
	if at, known := s.Topics.Of(row.ID); known {
		e.Topic, e.Partition, e.Offset, e.Copies, e.LSN, e.DeadLetter = at.Topic, at.Partition, at.Offset, at.Copies, at.LSN, at.DeadLetter
		e.PublishedAt, e.CommittedAt = timeOrNil(at.PublishedAt), timeOrNil(at.CommittedAt)
	}
	e.State = e.state()
	for _, at := range []*time.Time{e.SentAt, e.AppliedAt, e.PublishedAt} {
		if at != nil {
			ms := float64(at.Sub(e.AppendedAt).Microseconds()) / 1000
			e.TotalMillis = &ms
			break
		}
	}
	return e
}

func (e Event) state() State {
	switch {
	case e.Notification == "SENT":
		return Delivered
	case e.Notification == "FAILED", e.MailState == "failed":
		return Failed
	case e.DeadLetter != "":
		return DeadLetter // it has an inbox row too: set aside is accounted for
	case e.AppliedAt != nil:
		return Applied
	case e.Topic != "":
		return Published
	default:
		return Appended
	}
}

// deref is the value, or the zero value where the database has none.
func deref[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

func timeOrNil(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
