package devstack

import (
	"html/template"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// view is what a template is filled with; each page uses the fields of its own.
type view struct {
	Version, Try, Page, Title, Message string
	RunsOn                             string
	Now                                time.Time
	Status                             Status
	Event                              Event
	Mails                              []Mail
	MailsTotal                         int
	Mail                               Mail
}

// hop is one step of an event's way, as text and as a piece of a bar that is barWidth long.
type hop struct {
	Name   string
	Detail string
	At     *time.Time
	Millis string // since the step before; "" for the first and for those that have not happened
	X, W   int
}

const barWidth = 1000

func viewFuncs() template.FuncMap {
	return template.FuncMap{
		"clock":   func(at time.Time) string { return at.Local().Format("15:04:05.000") },
		"utc":     func(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000000Z") },
		"stuck":   Status.stuck,
		"millis":  func(ms *float64) string { return millis(*ms) },
		"symbol":  State.symbol,
		"class":   State.class,
		"hops":    Event.hops,
		"bytes":   func(n int64) string { return byteSize(n) },
		"int64":   func(n int) int64 { return int64(n) },
		"number":  grouped,
		"payload": func(e Event) string { return strings.ToValidUTF8(*e.Payload, "\ufffd") },
		"cut":     func(e Event) bool { return e.Payload != nil && len(*e.Payload) < e.PayloadBytes },
		"eventOf": eventOf,
		"short":   shortID,
	}
}

// stuck is for how long the oldest notification has been waiting; "" while that is nothing unusual.
func (st Status) stuck() string {
	if st.Counts.OldestPending == nil || st.Time.Sub(*st.Counts.OldestPending) < 5*time.Second {
		return ""
	}
	return age(st.Time.Sub(*st.Counts.OldestPending))
}

// symbol tells the states apart without colour.
func (s State) symbol() string {
	switch s {
	case Appended:
		return "○"
	case Published:
		return "◔"
	case Applied:
		return "◑"
	case Delivered:
		return "●"
	default:
		return "✕"
	}
}

func (s State) class() string {
	switch s {
	case Delivered:
		return "good"
	case Failed, DeadLetter:
		return "bad"
	default:
		return "under-way"
	}
}

// hops is the way of the event, with a bar of which each hop has its share of the time.
func (e Event) hops() []hop {
	way := []hop{
		{Name: "Appended", Detail: "insert into outbox_events", At: &e.AppendedAt},
		{Name: "Committed", Detail: e.LSN, At: e.CommittedAt},
		{Name: "Published", At: e.PublishedAt},
		{Name: "Applied", At: e.AppliedAt},
		{Name: "Mail", At: e.SentAt},
	}
	if e.Topic != "" {
		way[2].Detail = e.Topic + "-" + strconv.Itoa(int(e.Partition)) + "@" + strconv.FormatInt(e.Offset, 10)
	}
	switch {
	case e.DeadLetter != "":
		way[3].Name, way[3].Detail = "Set aside", e.DeadLetter
	case e.AppliedAt != nil:
		way[3].Detail = "inbox row and what the handler wrote, in one transaction"
	}
	if e.MailState != "" {
		way[4].Detail = e.MailState + " to " + e.Recipient
	}
	var total time.Duration
	if e.TotalMillis != nil {
		total = time.Duration(*e.TotalMillis * float64(time.Millisecond))
	}
	last := e.AppendedAt
	for i := range way {
		h := &way[i]
		if h.At == nil || i == 0 {
			continue
		}
		// Clocks of different resolution meet here (Kafka's is in milliseconds): a step never goes back.
		step := max(h.At.Sub(last), 0)
		h.Millis = "+" + millis(float64(step.Microseconds())/1000)
		if total > 0 {
			h.X = min(int(barWidth*last.Sub(e.AppendedAt)/total), barWidth)
			h.W = min(int(barWidth*step/total), barWidth-h.X)
		}
		last = last.Add(step)
	}
	return way
}

func millis(ms float64) string {
	switch {
	case ms < 0.05:
		return "0 ms"
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	case ms < 10_000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	default:
		return age(time.Duration(ms) * time.Millisecond)
	}
}

func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.Itoa(max(int(d.Seconds()), 0)) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	default:
		return strconv.Itoa(int(d.Hours()/24)) + " days"
	}
}

// grouped writes 1234567 as 1,234,567.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// eventOf is the id of the event that a mail belongs to, "" when its Message-ID does not begin with one.
func eventOf(m Mail) string {
	id, _, _ := strings.Cut(m.MessageID, "@")
	if len(id) != 36 || uuid.Validate(id) != nil {
		return ""
	}
	return id
}

// shortID is the end of an id: the beginning of a UUIDv7 is its time and alike among neighbours.
func shortID(id string) string {
	if len(id) <= 12 {
		return id
	}
	return "…" + id[len(id)-12:]
}
