package cli_test

import (
	"testing"

	"github.com/walpost/walpost/internal/pgtest"
)

// insertEvent commits one outbox row.
func insertEvent(t *testing.T, url string) {
	t.Helper()
	if _, err := pgtest.Pool(t, url).Exec(t.Context(),
		`insert into outbox_events (id, aggregate_id, event_type) values (gen_random_uuid(), 'a', 'notif.user.registration')`); err != nil {
		t.Fatal(err)
	}
}

// Slots are made on a server of their own: creating one waits for every writing transaction of the server, in any database.
func TestTheSlotIsCreatedLookedAtAndDropped(t *testing.T) {
	t.Parallel()
	url := pgtest.StartServer(t).URL(t)
	ok(t, "migrate", "up", "--database-url", url)
	values := map[string]string{"$URL": url, "$CLOSED": "postgres://ada:planted@" + closedPort(t) + "/orders", "$BROKERS": closedPort(t)}
	run := func(name string, args ...string) {
		t.Helper()
		runGolden(t, name, values, append(args, "--slot", "orders", "--database-url", "$URL")...)
	}
	run("slot_status_missing", "slot", "status", "--kafka-brokers", "$BROKERS")
	run("slot_drop_missing", "slot", "drop", "--yes")
	run("slot_create", "slot", "create")
	run("slot_create_again", "slot", "create")
	run("slot_create_if_missing", "slot", "create", "--if-missing")
	run("slot_status", "slot", "status", "--output", "json", "--quiet", "--kafka-brokers", "$BROKERS")
	run("slot_status_without_kafka", "slot", "status", "--kafka-brokers", "$BROKERS")
	run("slot_drop_unconfirmed", "slot", "drop")
	run("slot_drop", "slot", "drop", "--yes")

	if _, err := pgtest.Pool(t, url).Exec(t.Context(), "select pg_create_logical_replication_slot('orders', 'test_decoding')"); err != nil {
		t.Fatal(err)
	}
	if got := runGolden(t, "slot_status_other_plugin", values, "slot", "status", "--slot", "orders", "--database-url", "$URL", "--kafka-brokers", "$BROKERS"); got.code != 3 {
		t.Errorf("slot status of a slot that no relay can read: exit code = %d, want 3", got.code)
	}
	ok(t, "slot", "drop", "--yes", "--slot", "orders", "--database-url", url)

	insertEvent(t, url)
	run("slot_create_would_skip", "slot", "create")
	run("slot_create_skipping", "slot", "create", "--skip-existing")
	run("slot_create_no_publication", "slot", "create", "--publication", "elsewhere")
	runGolden(t, "slot_database_unreachable", values, "slot", "status", "--database-url", "$CLOSED")
}

func TestASlotInUseIsNotDropped(t *testing.T) {
	t.Parallel()
	sys := startRelay(t)
	got := walpost(t, nil, "slot", "drop", "--yes", "--database-url", sys.url)
	if got.code != 5 {
		t.Errorf("slot drop under a running relay = %d: %s, want exit code 5", got.code, got.stderr)
	}
	if code := sys.relay.drain(t); code != 0 {
		t.Errorf("relay: exit code = %d, want 0: %s", code, sys.relay.stderr)
	}
}

func TestARelayThatHaltsHasAnExitCodeForTheCause(t *testing.T) {
	t.Parallel()
	url := pgtest.StartServer(t).URL(t)
	values := map[string]string{"$URL": url, "$CLOSED": closedPort(t)}
	relay := func(name string, code int, args ...string) {
		t.Helper()
		args = append([]string{"relay", "--ops-addr", "127.0.0.1:0", "--log-level", "error", "--database-url", "$URL", "--kafka-brokers", "$CLOSED"}, args...)
		if got := runGolden(t, name, values, args...); got.code != code {
			t.Errorf("%s: exit code = %d, want %d", name, got.code, code)
		}
	}
	relay("relay_table_missing", 14)
	ok(t, "migrate", "up", "--database-url", url)
	relay("relay_publication_missing", 13, "--publication", "elsewhere")
	insertEvent(t, url)
	relay("relay_slot_missing", 10)
	ok(t, "slot", "create", "--skip-existing", "--database-url", url)
	pool := pgtest.Pool(t, url)
	if _, err := pool.Exec(t.Context(), "alter publication walpost_outbox drop table outbox_events"); err != nil {
		t.Fatal(err)
	}
	relay("relay_table_unpublished", 14)
}
