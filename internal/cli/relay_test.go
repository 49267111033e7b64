package cli_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
)

// relaySystem is a relay between a database server and a broker of its own.
type relaySystem struct {
	url    string
	broker *kafkatest.Cluster
	relay  *server
	ops    string
}

func startRelay(t *testing.T, args ...string) relaySystem {
	t.Helper()
	sys := relaySystem{url: pgtest.StartServer(t).URL(t), broker: kafkatest.Start(t)}
	ok(t, "migrate", "up", "--database-url", sys.url)
	ok(t, "topics", "create", "--kafka-brokers", sys.broker.Brokers[0])
	sys.relay = start(t, append(sys.args(), args...)...)
	sys.ops = sys.relay.addr(t, "ops")
	until(t, sys.ops, "/readyz", http.StatusOK)
	return sys
}

func (s relaySystem) args() []string {
	return []string{
		"relay", "--ops-addr", "127.0.0.1:0", "--database-url", s.url, "--kafka-brokers", s.broker.Brokers[0], "--log-format", "json",
	}
}

func TestTheRelayPublishesAndASecondOneStandsBy(t *testing.T) {
	t.Parallel()
	sys := startRelay(t, "--position-headers")
	sys.relay.says(t, `"delivery":"exactly-once"`)
	second := start(t, sys.args()...)
	until(t, second.addr(t, "ops"), "/readyz", http.StatusOK, `"relay":"standby"`)

	insertEvent(t, sys.url)
	got := sys.broker.Records(t, "notif.user.registration", 1, 20*time.Second)
	headers := make(map[string]bool)
	for _, h := range got[0].Headers {
		headers[h.Key] = true
	}
	if !headers[record.HeaderLSN] || string(got[0].Key) != "a" {
		t.Errorf("record = key %s, headers %v, want key a and position headers", got[0].Key, headers)
	}
	_, metrics := get(t, "http://"+sys.ops+"/metrics")
	for _, want := range []string{
		`walpost_relay_events_total{topic="notif.user.registration"} 1`, `walpost_relay_state{state="streaming"} 1`, "walpost_slot_retained_bytes",
		`walpost_health{entity="database",state="ok"} 1`, `walpost_health{entity="kafka",state="ok"} 1`, "walpost_relay_inflight_bytes 0",
		"walpost_relay_batch_events_sum 1", "walpost_relay_publish_delay_seconds_count 1", "walpost_relay_lag_seconds 0", "walpost_relay_published_lsn_bytes ",
		`walpost_relay_delivery{mode="exactly-once"} 1`, `walpost_relay_halts_total{cause="slot_lost"} 0`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	for _, s := range []*server{second, sys.relay} {
		if code := s.drain(t); code != 0 {
			t.Errorf("exit code = %d, want 0: %s", code, s.stderr)
		}
	}
}

func TestARelayMakesDeadLettersWhereAsked(t *testing.T) {
	t.Parallel()
	sys := startRelay(t, "--on-unpublishable", "dead-letter", "--dead-letter-topic", "graves")
	sys.broker.CreateTopic(t, "graves", 1)
	if _, err := pgtest.Pool(t, sys.url).Exec(t.Context(),
		`insert into outbox_events (id, aggregate_id, event_type) values (gen_random_uuid(), 'a', 'nowhere')`); err != nil {
		t.Fatal(err)
	}
	insertEvent(t, sys.url)
	sys.broker.Records(t, "notif.user.registration", 1, 20*time.Second)
	got := sys.broker.Records(t, "graves", 1, 20*time.Second)
	if string(got[0].Key) != "a" {
		t.Errorf("key of the dead letter = %q, want the event's", got[0].Key)
	}
	until(t, sys.ops, "/metrics", http.StatusOK, `walpost_relay_dead_letters_total{cause="topic_missing"} 1`, `walpost_relay_events_total{topic="notif.user.registration"} 1`)
	sys.relay.says(t, "event went to the dead-letter topic")
	if code := sys.relay.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0: %s", code, sys.relay.stderr)
	}
}

func TestARelayWaitsForWhatIsAwayAndSaysSo(t *testing.T) {
	t.Parallel()
	s := start(t, "relay", "--ops-addr", "127.0.0.1:0", "--database-url", "postgres://ada:planted@"+closedPort(t)+"/orders",
		"--kafka-brokers", closedPort(t), "--log-format", "json")
	ops := s.addr(t, "ops")
	report := until(t, ops, "/readyz", http.StatusServiceUnavailable,
		`{"name":"database","status":"error"`, `{"name":"kafka","status":"error"`, `{"name":"relay","status":"error"`, `{"name":"slot","status":"error"`)
	until(t, ops, "/livez", http.StatusOK)
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0", code)
	}
	if strings.Contains(s.stderr.String()+report, "planted") {
		t.Errorf("the password is shown: %s %s", s.stderr, report)
	}
}
