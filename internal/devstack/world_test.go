package devstack_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/record"
)

const (
	group       = "walpost-notify"
	deadLetters = "eventdriven-examples.dlq"
	hostile     = `<img src=x onerror=alert(1)><script>alert(2)</script>`
)

// world is a page and all that it reads.
type world struct {
	pool   *pgxpool.Pool
	broker *devstack.Broker
	mails  string // address of the sink
	page   *devstack.Page
}

func setupPage(t *testing.T) world {
	t.Helper()
	w := world{pool: pgtest.Pool(t, pgtest.Migrated(t)), broker: startBroker(t, t.TempDir())}
	for _, name := range []string{topic, deadLetters} {
		if err := w.broker.CreateTopic(name, nil); err != nil {
			t.Fatal(err)
		}
	}
	sink, addr := startSink(t)
	w.mails = addr
	topics, err := devstack.NewTopicReader([]string{w.broker.Addr()}, deadLetters)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- topics.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("TopicReader.Run() = %v", err)
		}
	})
	w.page, err = devstack.NewPage("0.1.0", "curl -i 127.0.0.1:5001", devstack.Sources{
		Pool: w.pool, Topics: topics, Mails: sink, Slot: "walpost", Group: group, DeadLetterTopic: deadLetters,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w world) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	if _, err := w.pool.Exec(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// append puts an event into the outbox table.
func (w world) append(t *testing.T, payload any) outbox.EventID {
	t.Helper()
	id := outbox.NewID()
	w.exec(t, `insert into outbox_events (id, aggregate_type, aggregate_id, event_type, payload) values ($1::uuid, 'user', 'user-1', $2, $3::json)`, id.String(), topic, payload)
	return id
}

// publish puts the record of an event into a topic, as the relay would, and returns its place.
func (w world) publish(t *testing.T, id outbox.EventID, to string) *kgo.Record {
	t.Helper()
	rec := &kgo.Record{Topic: to, Key: []byte("user-1"), Headers: []kgo.RecordHeader{{Key: record.HeaderID, Value: []byte(id.String())}}}
	for _, h := range record.AppendPosition(nil, record.Position{Commit: 0x1A2B}, time.Now()) {
		rec.Headers = append(rec.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	if err := client(t, w.broker.Addr()).ProduceSync(t.Context(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return rec
}

// apply writes what the consumer writes for an event, and the state of its mail and notification.
func (w world) apply(t *testing.T, id outbox.EventID, mail, notification string) {
	t.Helper()
	w.exec(t, `insert into inbox_consumer (name) values ($1) on conflict do nothing`, group)
	w.exec(t, `insert into inbox (consumer, msg_id) select c.id, $1::uuid from inbox_consumer c`, id.String())
	if mail == "" {
		return
	}
	w.exec(t, `
		with u as (insert into users (id, email, password_hash) values (gen_random_uuid(), $1::text || '@example.com', 'x') returning id),
		n as (insert into notifications (id, user_id, kind, state, sent_at, failed_at) select gen_random_uuid(), u.id, 'welcome', $3, now(), now() from u returning id)
		insert into mail_effects (id, notification_id, recipient, kind, state, attempts, sent_at)
		select $1::text::uuid, n.id, 'ada@example.com', 'welcome', $2, 1, case when $2 = 'sent' then clock_timestamp() end from n`,
		id.String(), mail, notification)
}

func (w world) get(t *testing.T, path string) (code int, body string, header http.Header) {
	t.Helper()
	return w.getAs(t, "127.0.0.1:8090", path)
}

func (w world) getAs(t *testing.T, host, path string) (code int, body string, header http.Header) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	request.Host = host
	response := httptest.NewRecorder()
	w.page.ServeHTTP(response, request)
	text, err := io.ReadAll(response.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.Code, string(text), response.Header()
}

func (w world) status(t *testing.T) (st devstack.Status) {
	t.Helper()
	_, body, _ := w.get(t, "/status.json")
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatalf("/status.json: %v in %s", err, body)
	}
	return st
}

// eventually asks for the status until it is as wanted.
func (w world) eventually(t *testing.T, what string, wanted func(devstack.Status) bool) devstack.Status {
	t.Helper()
	ctx, tick := within(t, 20*time.Second), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		st := w.status(t)
		if wanted(st) {
			return st
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within 20 s; last status %+v", what, st)
		}
	}
}
