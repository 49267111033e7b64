package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxpgx"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
	"github.com/walpost/walpost/relay/pgwal"
)

// awkward are payloads that a careless stage would rewrite: parsing and printing them again changes each of them.
var awkward = []struct{ name, payload string }{
	{"key order", `{"b":1,"a":2,"c":3}`},
	{"duplicate keys", `{"a":1,"a":2}`},
	{"an integer beyond float64", `{"n":9007199254740993}`},
	{"a number beyond every float", `{"n":1e400}`},
	{"unicode escapes", `{"s":"\u00e9\u0000\ud83d\ude00","t":"é😀"}`},
	{"white space", "\n {\t\"a\" :\r\n1 }  "},
	{"deep nesting", strings.Repeat("[", 500) + strings.Repeat("]", 500)},
	{"900 kB", `{"s":"` + strings.Repeat("x", 900_000) + `"}`},
	{"the empty object", `{}`},
	{"the empty string", `""`},
	{"the JSON literal null", `null`},
	{"NULL", ""},
}

func TestPayloadsReachTheHandlerByteForByte(t *testing.T) {
	t.Parallel()
	const topic = "payload.check"
	url := pgtest.StartServer(t).Migrated(t)
	broker := kafkatest.Start(t)
	broker.CreateTopic(t, topic, 3)
	broker.CreateTopic(t, "eventdriven-examples.dlq", 1)
	pool := pgtest.Pool(t, url)

	got := make(chan *inbox.Message, len(awkward))
	wal := pgwal.Config{URL: url, Slot: pgtest.SlotName(t)}
	if err := pgwal.CreateSlot(t.Context(), wal); err != nil { // the first event may come before the relay does
		t.Fatal(err)
	}
	runInBackground(t, newRelay(t, wal, broker).Run)
	consumer, err := inbox.New(pool, inbox.Config{
		Brokers: broker.Brokers, Group: "payload", Topics: []string{topic},
		Handlers: map[string]inbox.TxHandler{topic: func(_ context.Context, _ pgx.Tx, m *inbox.Message) error {
			got <- m
			return nil
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	runInBackground(t, consumer.Run)

	for i, tc := range awkward {
		event := outbox.Event{AggregateType: "case", AggregateID: fmt.Sprint(i), Type: topic}
		if tc.name != "NULL" {
			event.Payload = json.RawMessage(tc.payload)
		}
		if err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return outboxpgx.Append(t.Context(), tx, event) }); err != nil {
			t.Fatalf("append %s: %v", tc.name, err)
		}
	}
	for range awkward {
		select {
		case m := <-got:
			compare(t, m)
		case <-time.After(30 * time.Second):
			t.Fatal("the handler did not get every payload within 30 s")
		}
	}
}

func compare(t *testing.T, m *inbox.Message) {
	t.Helper()
	var i int
	if _, err := fmt.Sscan(m.Key, &i); err != nil {
		t.Fatalf("key %q: %v", m.Key, err)
	}
	want := awkward[i]
	if isNull := want.name == "NULL"; isNull != (m.Payload == nil) || !bytes.Equal(m.Payload, []byte(want.payload)) {
		t.Errorf("payload of %s = %.80q (%d bytes, nil %v), want %.80q (%d bytes)", want.name, m.Payload, len(m.Payload), m.Payload == nil, want.payload, len(want.payload))
	}
}

func newRelay(t *testing.T, wal pgwal.Config, broker *kafkatest.Cluster) *relay.Relay {
	t.Helper()
	source, err := pgwal.New(wal)
	if err != nil {
		t.Fatal(err)
	}
	sink, err := kafkasink.New(kafkasink.Config{Brokers: broker.Brokers})
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(source, sink, relay.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// runInBackground runs until the test ends and then waits for it.
func runInBackground(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run ended with %v", err)
		}
	})
}
