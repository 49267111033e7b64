package cli_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
)

const rawTopic = "dbz.public.outbox_events"

// rawRow is a row as a raw connector publishes it.
func rawRow(id, eventType string) *kgo.Record {
	return &kgo.Record{Topic: rawTopic, Key: []byte(`{"aggregate_id":"42"}`), Value: fmt.Appendf(nil,
		`{"id":%q,"aggregate_type":"user","aggregate_id":"42","event_type":%q,"payload":"{\"b\":1.0,\"a\":\"<>\"}","headers":null,"traceparent":null,`+
			`"created_at":"2026-11-25T12:00:00Z"}`, id, eventType)}
}

func TestTheTopicOfARawConnectorIsCreatedAndChecked(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Start(t)
	values := map[string]string{"$BROKER": broker.Brokers[0]}
	run := func(name string, args ...string) {
		t.Helper()
		runGolden(t, name, values, append(args, "--kafka-brokers", "$BROKER")...)
	}
	run("topics_check_raw_missing", "topics", "check", "--raw")
	run("topics_create_raw", "topics", "create", "--raw")
	run("topics_create_raw_again", "topics", "create", "--raw", "--output", "json")
	run("topics_check_raw", "topics", "check", "--raw")
	small := "1048588"
	admin := kadm.NewClient(broker.Client(t))
	if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &small}}, rawTopic); err != nil {
		t.Fatal(err)
	}
	run("topics_check_raw_small", "topics", "check", "--raw")
}

func TestTheForwarderRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	values := map[string]string{"$KAFKA": closedPort(t), "$MIGRATED": pgtest.Migrated(t)}
	for name, args := range map[string][]string{
		"forward_same_group":  {"--forward-group", "walpost-notify"},
		"forward_same_topic":  {"--raw-topic", "notif.user.registration"},
		"forward_dead_letter": {"--raw-topic", "eventdriven-examples.dlq"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runGolden(t, name, values, append([]string{
				"kafka-consumer", "--forward", "--ops-addr", "127.0.0.1:0", "--database-url", "$MIGRATED", "--kafka-brokers", "$KAFKA", "--log-level", "error",
			}, args...)...)
		})
	}
}

func TestTheForwarderCarriesRowsToTheTopicsOfTheirEvents(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Start(t)
	brokers := broker.Brokers[0]
	s := start(t, "kafka-consumer", "--forward", "--ops-addr", "127.0.0.1:0", "--database-url", pgtest.Migrated(t), "--kafka-brokers", brokers,
		"--session-timeout", "6s", "--log-format", "json")
	ops := s.addr(t, "ops")
	until(t, ops, "/readyz", http.StatusServiceUnavailable, "forwarder", "create it with `walpost topics create`")
	ok(t, "topics", "create", "--raw", "--kafka-brokers", brokers)
	broker.CreateTopic(t, "forwarded", 3)
	until(t, ops, "/readyz", http.StatusOK)

	producer := broker.Client(t)
	write := func(records ...*kgo.Record) {
		t.Helper()
		if err := producer.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	write(rawRow("0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001", "forwarded"), &kgo.Record{Topic: rawTopic, Key: []byte(`{}`), Value: []byte(`{"no":"row"}`)},
		rawRow("", "forwarded"), rawRow("0199a0c5-7a30-7f2a-9d52-0d4f3a3f0002", "not/a/topic"))
	got := broker.Records(t, "forwarded", 1, runLimit)[0]
	if string(got.Key) != "42" || string(got.Value) != `{"b":1.0,"a":"<>"}` || len(got.Headers) != 5 || string(got.Headers[0].Value) != "0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001" ||
		got.Headers[3].Value != nil {
		t.Errorf("record = %s %s %v, want the row's event", got.Key, got.Value, got.Headers)
	}
	codes := make(map[string]int)
	for _, letter := range broker.Records(t, "eventdriven-examples.dlq", 3, runLimit) {
		for _, h := range letter.Headers {
			if h.Key == "x-dlq-code" {
				codes[string(h.Value)]++
			}
		}
	}
	if codes["not_a_row"] != 1 || codes["unpublishable"] != 2 {
		t.Errorf("codes of dead letters = %v, want one not_a_row and two unpublishable", codes)
	}
	// A row that the connector is to blame for is not passed over.
	write(&kgo.Record{Topic: rawTopic, Key: []byte(`{}`), Value: []byte(`{"schema":{},"payload":{}}`)})
	until(t, ops, "/readyz", http.StatusServiceUnavailable, "value.converter.schemas.enable=false")
	if _, metrics := get(t, "http://"+ops+"/metrics"); !strings.Contains(metrics, "walpost_forwarder_dead_letters_total 3") {
		t.Error("metrics do not show three dead letters")
	}
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0: %s", code, s.stderr)
	}
}

func TestTheForwarderMakesMissingTopicsWhereThatIsWanted(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Start(t)
	brokers := broker.Brokers[0]
	ok(t, "topics", "create", "--raw", "--kafka-brokers", brokers)
	s := start(t, "kafka-consumer", "--forward", "--create-topics", "--topic", "event.${aggregate_type}", "--ops-addr", "127.0.0.1:0",
		"--database-url", pgtest.Migrated(t), "--kafka-brokers", brokers, "--log-format", "json")
	if err := broker.Client(t).ProduceSync(t.Context(), rawRow("0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001", "x")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	until(t, s.addr(t, "ops"), "/metrics", http.StatusOK, "walpost_forwarder_events_total 1")
	broker.Records(t, "event.user", 1, runLimit)
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0: %s", code, s.stderr)
	}
}
