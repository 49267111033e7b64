package cli_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
)

const registrations = "notif.user.registration"

// exactly starts a relay as it is by default and waits until it streams.
func exactly(t *testing.T, url, broker string) *server {
	t.Helper()
	s := start(t, "relay", "--slot", "orders", "--ops-addr", "127.0.0.1:0", "--log-format", "json",
		"--database-url", url, "--kafka-brokers", broker)
	until(t, s.addr(t, "ops"), "/readyz", http.StatusOK)
	return s
}

func drained(t *testing.T, s *server) {
	t.Helper()
	if code := s.drain(t); code != 0 {
		t.Fatalf("exit code = %d, want 0: %s", code, s.stderr)
	}
}

// The way from at-least-once into exactly once, and on after each halt that names the command.
func TestASlotIsAdoptedWhereItStands(t *testing.T) {
	t.Parallel()
	srv := pgtest.StartServer(t)
	url := srv.URL(t)
	broker := kafkatest.Start(t)
	pool := pgtest.Pool(t, url)
	values := map[string]string{"$URL": url, "$BROKERS": broker.Brokers[0], "$CLOSED": closedPort(t)}
	run := func(name string, code int, args ...string) {
		t.Helper()
		if got := runGolden(t, name, values, append(args, "--slot", "orders", "--database-url", "$URL", "--kafka-brokers", "$BROKERS")...); got.code != code {
			t.Errorf("%s: exit code = %d, want %d", name, got.code, code)
		}
	}
	halts := func(name string, code int) {
		t.Helper()
		run(name, code, "relay", "--ops-addr", "127.0.0.1:0", "--log-level", "error")
	}
	write := func(watermark string) { // past any relay
		t.Helper()
		var system string
		if err := pool.QueryRow(t.Context(), "select system_identifier::text from pg_control_system()").Scan(&system); err != nil {
			t.Fatal(err)
		}
		rec := &kgo.Record{Topic: "outbox.relay.watermarks", Key: []byte(system + "/orders"), Value: []byte(watermark)}
		if err := broker.Client(t).ProduceSync(t.Context(), rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	ok(t, "migrate", "up", "--database-url", url)
	ok(t, "topics", "create", "--kafka-brokers", broker.Brokers[0])
	run("slot_adopt_missing", 4, "slot", "adopt", "--yes")
	ok(t, "slot", "create", "--slot", "orders", "--database-url", url)
	run("slot_status_fresh", 0, "slot", "status")
	run("slot_adopt_fresh_dry_run", 0, "slot", "adopt", "--dry-run", "--output", "json")

	// At least once first, with an event that is published but not confirmed any more.
	loose := start(t, "relay", "--delivery", "at-least-once", "--slot", "orders", "--ops-addr", "127.0.0.1:0", "--log-format", "json",
		"--database-url", url, "--kafka-brokers", broker.Brokers[0])
	until(t, loose.addr(t, "ops"), "/readyz", http.StatusOK)
	run("slot_adopt_in_use", 5, "slot", "adopt", "--yes")
	if got := ok(t, "slot", "status", "--slot", "orders", "--database-url", url, "--kafka-brokers", broker.Brokers[0], "--output", "json"); !strings.Contains(got.stdout, `"application": "walpost"`) ||
		!strings.Contains(got.stderr, ", application walpost.") || strings.Contains(got.stdout, `"active_pid": null`) {
		t.Errorf("slot status under a relay = %s%s, want who holds the slot", got.stdout, got.stderr)
	}
	insertEvent(t, url)
	broker.Records(t, registrations, 1, 20*time.Second)
	drained(t, loose)
	insertEvent(t, url)
	halts("relay_no_watermark", 20)
	run("slot_status_no_watermark", 0, "slot", "status")
	run("slot_adopt_dry_run", 0, "slot", "adopt", "--dry-run")
	halts("relay_no_watermark", 20) // a dry run has changed nothing
	run("slot_adopt_unconfirmed", 2, "slot", "adopt")
	run("slot_adopt", 0, "slot", "adopt", "--yes")
	first := exactly(t, url, broker.Brokers[0])
	first.says(t, `"delivery":"exactly-once"`)
	broker.Records(t, registrations, 2, 20*time.Second)
	_, metrics := get(t, "http://"+first.addr(t, "ops")+"/metrics")
	for _, want := range []string{`walpost_relay_delivery{mode="exactly-once"} 1`, `walpost_relay_transactions_total{outcome="aborted"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics have no %s", want)
		}
	}
	if none := `walpost_relay_transactions_total{outcome="committed"} 0`; strings.Contains(metrics, none) {
		t.Errorf("metrics have %s after a record was published", none)
	}
	drained(t, first)
	run("slot_status_watermark", 0, "slot", "status", "--output", "json")

	// Somebody moves the slot: what lies between is skipped.
	insertEvent(t, url)
	if _, err := pool.Exec(t.Context(), "select pg_replication_slot_advance('orders', pg_current_wal_lsn())"); err != nil {
		t.Fatal(err)
	}
	halts("relay_slot_moved", 12)
	run("slot_status_moved", 0, "slot", "status")
	run("slot_adopt_skips", 0, "slot", "adopt", "--yes", "--output", "json")
	insertEvent(t, url)
	drained(t, awaiting(t, exactly(t, url, broker.Brokers[0]), broker, 3))

	// The watermark is ahead of the slot, and of another timeline.
	insertEvent(t, url)
	write(`{"timeline":7,"commit_lsn":"FFFF/10000000","index":0,"event_id":"a","end_lsn":"FFFF/10000008","ring":16}`)
	run("slot_status_timeline", 0, "slot", "status", "--output", "json")
	run("slot_adopt_repeats", 0, "slot", "adopt", "--dry-run", "--output", "yaml")

	// Somebody writes nonsense over the watermark.
	write("x")
	run("slot_status_garbled", 0, "slot", "status", "--output", "json")
	halts("relay_watermark_garbled", 20)
	run("slot_adopt_garbled", 0, "slot", "adopt", "--yes")
	drained(t, exactly(t, url, broker.Brokers[0]))

	// A standby is promoted that has received everything.
	srv.Stop(t)
	srv.Promote(t)
	run("slot_adopt_promoted", 0, "slot", "adopt", "--dry-run")
	run("slot_status_promoted", 0, "slot", "status")

	runGolden(t, "slot_adopt_kafka_unreachable", values, "slot", "adopt", "--yes", "--slot", "orders", "--database-url", "$URL", "--kafka-brokers", "$CLOSED")

	// Somebody drops it.
	ok(t, "slot", "drop", "--yes", "--slot", "orders", "--database-url", url)
	run("slot_status_gone", 4, "slot", "status")
}

// awaiting waits until the topic has n records.
func awaiting(t *testing.T, s *server, broker *kafkatest.Cluster, n int) *server {
	t.Helper()
	broker.Records(t, registrations, n, 20*time.Second)
	return s
}
