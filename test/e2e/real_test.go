package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/devstack/stacktest"
	"github.com/walpost/walpost/internal/freeport"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
)

// realTimeout is for what waits for a JVM on a machine that has other things to do.
const realTimeout = 3 * time.Minute

// TestEitherRelayCarriesARegistrationOnTheRealStack is a newcomer's second hour: real Kafka and Debezium on this machine, the application on it, and
// the two relays in turn, with registrations while none of them runs.
func TestEitherRelayCarriesARegistrationOnTheRealStack(t *testing.T) {
	stacktest.Artifacts(t)
	real := startRealStack(t)
	api := address(t)
	for i, relay := range []string{"debezium", "walpost", "debezium"} {
		page := address(t)
		dev := start(t, "dev", "--stack", "real", "--stack-dir", real.dir, "--relay", relay, "--data-dir", dataDir(t), "--addr", api,
			"--console-addr", page, "--smtp-addr", address(t), "--ops-addr", address(t))
		dev.line(t, "the events of before", realTimeout, func(line string) bool {
			return strings.HasPrefix(line, "Sample registration delivered in ") || i > 0 && strings.HasPrefix(line, "continuing: ")
		})
		adopted := slices.ContainsFunc(dev.logged(), func(line string) bool {
			return strings.HasPrefix(line, "slot walpost: Debezium or at least once has published through it: exactly once begins anew at ")
		})
		if adopted != (relay == "walpost") {
			t.Errorf("dev --relay %s says that it adopts the slot = %v: %s", relay, adopted, dev.lastLines())
		}
		email := fmt.Sprintf("by-%s-%d@example.com", relay, i)
		id := register(t, api, email)
		eventually(t, "the notification is SENT", time.Minute, func(ctx context.Context) error {
			return expectBody(ctx, "http://"+api+"/api/v1/notifications/"+id, `"SENT"`)
		})
		eventually(t, "the mail is on the page", time.Minute, func(ctx context.Context) error {
			return expectBody(ctx, "http://"+page+"/mails", email)
		})
		dev.interrupt(t, realTimeout)
		real.registerUnseen(t, api, fmt.Sprintf("unseen-%d@example.com", i))
	}
	// What came last is for whoever comes next.
	run(t, "slot", "adopt", "--yes", "--database-url", real.database, "--kafka-brokers", real.kafka)
	foreign := start(t, "relay", "--database-url", real.database, "--kafka-brokers", real.kafka, "--ops-addr", "127.0.0.1:0")
	real.check(t, 1+2*3)

	real.refusesDev(t, "slot walpost is read by a walpost relay that is not this dev's")
	foreign.interrupt(t, time.Minute)
	run(t, "connector", "apply", "--connector", "foreign", "--connect-url", "http://"+real.connect, "--database-url", real.database)
	real.refusesDev(t, `slot walpost is read by a session that calls itself "Debezium Streaming"`)
}

// refusesDev wants dev, with either relay, to end with the exit code of a conflict and to say why, and never to be ready.
func (s realStack) refusesDev(t *testing.T, why string) {
	t.Helper()
	for _, relay := range []string{"walpost", "debezium"} {
		dev := start(t, "dev", "--stack", "real", "--stack-dir", s.dir, "--relay", relay, "--data-dir", dataDir(t), "--addr", address(t),
			"--console-addr", address(t), "--smtp-addr", address(t), "--ops-addr", address(t))
		select {
		case <-dev.exited:
		case <-time.After(realTimeout):
			t.Fatalf("dev --relay %s still runs after %v: %s", relay, realTimeout, dev.lastLines())
		}
		if code, said := dev.cmd.ProcessState.ExitCode(), dev.lastLines(); code != 5 || !strings.Contains(said, why) || len(dev.stdout) > 0 {
			t.Errorf("dev --relay %s while another reads the slot: exit code %d, %q, %q, want 5, nothing, and that %s", relay, code, dev.stdout, said, why)
		}
	}
}

// realStack is what `stack up` has started.
type realStack struct {
	dir, database, kafka, connect string
}

func startRealStack(t *testing.T) realStack {
	t.Helper()
	s := realStack{dir: dataDir(t), kafka: kafkaAddress(t), connect: address(t)}
	postgres := address(t)
	s.database = "postgres://walpost@" + postgres + "/walpost?sslmode=disable"
	up := []string{"stack", "up", "--stack-dir", s.dir, "--postgres-addr", postgres, "--kafka-addr", s.kafka, "--connect-addr", s.connect}
	t.Cleanup(func() { run(t, "stack", "down", "--stack-dir", s.dir) })
	begin := time.Now()
	run(t, up...)
	first := time.Since(begin)
	begin = time.Now()
	if said := run(t, up...); !strings.Contains(said, "the stack runs already") {
		t.Errorf("a second stack up says %q, want that it runs already", said)
	}
	fmt.Printf("counts: stack up %.1f s, again %.1f s\n", first.Seconds(), time.Since(begin).Seconds())
	return s
}

// kafkaAddress is a free address whose next port is free as well: Kafka takes both.
func kafkaAddress(t *testing.T) string {
	t.Helper()
	addr, err := freeport.Row(2)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// registerUnseen registers somebody while nobody carries events: the API runs alone.
func (s realStack) registerUnseen(t *testing.T, api, email string) {
	t.Helper()
	server := start(t, "api-server", "--addr", api, "--database-url", s.database, "--ops-addr", "127.0.0.1:0")
	eventually(t, "the API answers", time.Minute, func(ctx context.Context) error { return expectBody(ctx, "http://"+api+"/openapi.json", "openapi") })
	register(t, api, email)
	http.DefaultClient.CloseIdleConnections() // else the server waits for them
	server.interrupt(t, time.Minute)
}

// check holds the topic against the outbox table: each event is there, and only those.
func (s realStack) check(t *testing.T, want int) {
	t.Helper()
	pool := pgtest.Pool(t, s.database)
	rows, err := pool.Query(t.Context(), `select id::text from outbox_events order by id`)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if len(committed) != want {
		t.Errorf("events in the outbox = %d, want %d", len(committed), want)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.ConsumeTopics(registrationTopic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	published := make(map[string]int)
	records := 0
	for len(published) < len(committed) && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			records++
			for _, h := range r.Headers {
				if h.Key == record.HeaderID {
					published[string(h.Value)]++
				}
			}
		})
	}
	for _, id := range committed {
		if published[id] == 0 {
			t.Errorf("event %s is not in the topic", id)
		}
		delete(published, id)
	}
	if len(published) > 0 {
		t.Errorf("events in the topic that are not in the outbox: %v", published)
	}
	fmt.Printf("counts: real stack, Debezium, walpost, Debezium, walpost: %d events in %d records\n", len(committed), records)
}
