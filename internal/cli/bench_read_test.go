package cli_test

import (
	"encoding/json"
	"testing"

	"github.com/walpost/walpost/internal/bench"
	"github.com/walpost/walpost/internal/pgtest"
)

func TestAReadingStopsAtItsPositionAndTakesWhatItReadFromTheSlot(t *testing.T) {
	t.Parallel()
	url := pgtest.StartServer(t).URL(t)
	ok(t, "migrate", "up", "--database-url", url)
	runGolden(t, "bench_read_no_slot", map[string]string{"$URL": url}, "bench", "read", "--slot", "orders", "--until", "0/1", "--database-url", "$URL", "--log-level", "error")
	runGolden(t, "bench_read_unreachable", map[string]string{"$CLOSED": "postgres://ada:planted@" + closedPort(t) + "/orders"},
		"bench", "read", "--until", "0/1", "--database-url", "$CLOSED", "--log-level", "error")
	ok(t, "slot", "create", "--slot", "orders", "--database-url", url)
	pool := pgtest.Pool(t, url)
	for _, events := range []int{6000, 1} { // the first more than a batch holds
		if _, err := pool.Exec(t.Context(), `insert into outbox_events (id, aggregate_id, event_type)
			select gen_random_uuid(), 'a', 'notif.user.registration' from generate_series(1, $1)`, events); err != nil {
			t.Fatal(err)
		}
		var end, confirmed string
		if err := pool.QueryRow(t.Context(), `select pg_current_wal_flush_lsn()::text`).Scan(&end); err != nil {
			t.Fatal(err)
		}
		got := ok(t, "bench", "read", "--slot", "orders", "--until", end, "--database-url", url, "--output", "json", "--log-level", "warn")
		var result bench.ReadResult
		if err := json.Unmarshal([]byte(got.stdout), &result); err != nil || result.Events != events || got.stderr != "" {
			t.Errorf("bench read = %q and stderr %q (%v), want %d events and no talk", got.stdout, got.stderr, err, events)
		}
		var reached bool
		err := pool.QueryRow(t.Context(), `select confirmed_flush_lsn::text, confirmed_flush_lsn >= $1::pg_lsn from pg_replication_slots where slot_name = 'orders'`, end).
			Scan(&confirmed, &reached)
		if err != nil || !reached {
			t.Errorf("slot is confirmed to %s (%v), want at least %s", confirmed, err, end)
		}
	}
}
