package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
)

const (
	registrationTopic = "notif.user.registration"
	registrations     = 2000
	kills             = 10 // of the relay, and as many of the consumer
)

var seed = flag.Uint64("seed", 0, "seed of the kill times; 0 takes the clock's")

// parts are the addresses of one system whose parts run as processes of their own.
type parts struct {
	database string
	api      string
	broker   *kafkatest.Cluster
	mails    *mailServer
}

// TestKillsOfRelayAndConsumerLoseAndDoubleNothing is the promise of the whole: registrations go on while the relay and the consumer are
// killed again and again, and in the end each of them is in the topic once and has had its effect, once.
func TestKillsOfRelayAndConsumerLoseAndDoubleNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute: run without -short")
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", *seed)
	sys := startParts(t)
	pool := pgtest.Pool(t, sys.database)

	var faults sync.WaitGroup
	var done, killed atomic.Int64
	for i, args := range [][]string{sys.relay(), sys.consumer()} {
		random := rand.New(rand.NewPCG(*seed, uint64(i)))
		faults.Go(func() { killAndRestart(t, random, &done, &killed, args) })
	}
	begin := time.Now()
	accepted := sys.register(t, &done)
	registered := time.Since(begin)
	faults.Wait()
	healed := time.Now()
	if got := killed.Load(); got != 2*kills {
		t.Fatalf("kills = %d, want %d", got, 2*kills)
	}

	eventually(t, "every notification SENT", 2*time.Minute, func(ctx context.Context) error {
		return allSent(ctx, pool)
	})
	drained := time.Since(healed)
	published := sys.publishedEvents(t, pool)
	checkEffects(t, pool)
	if got := count(t, pool, `select count(*) from notifications where state = 'SENT'`); got != accepted {
		t.Errorf("notifications SENT = %d, want one for each of %d accepted registrations", got, accepted)
	}
	mails := sys.mails.messages()
	if int64(len(mails)) != accepted {
		t.Errorf("different mails = %d, want %d", len(mails), accepted)
	}
	fmt.Printf("counts: seed %d, %d accepted in %.0f s, drained %.0f s after the last of %d kills, half of the relay and half of the consumer, "+
		"%d different events in %d records and %d transactions, with %d markers of aborted ones, %d inbox rows, %d mails (%d sent twice)\n",
		*seed, accepted, registered.Seconds(), drained.Seconds(), killed.Load(), published.ids, published.records, published.commits, published.aborts, count(t, pool, `select count(*) from inbox`), len(mails), repeated(mails))
}

func startParts(t *testing.T) *parts {
	t.Helper()
	sys := &parts{database: pgtest.StartServer(t).URL(t), api: address(t), broker: kafkatest.Start(t), mails: startMailServer(t)}
	run(t, "migrate", "up", "--database-url", sys.database)
	run(t, "slot", "create", "--database-url", sys.database) // the first registration may come before the relay does
	run(t, "topics", "create", "--kafka-brokers", sys.broker.Brokers[0])
	start(t, "api-server", "--addr", sys.api, "--database-url", sys.database, "--ops-addr", address(t), "--rate-limit", "0")
	eventually(t, "the API answers", 20*time.Second, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+sys.api+"/openapi.json", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
	return sys
}

func (s *parts) relay() []string {
	return []string{"relay", "--database-url", s.database, "--kafka-brokers", s.broker.Brokers[0], "--ops-addr", "127.0.0.1:0"}
}

func (s *parts) consumer() []string {
	return []string{"kafka-consumer", "--database-url", s.database, "--kafka-brokers", s.broker.Brokers[0], "--smtp-addr", s.mails.addr, "--ops-addr", "127.0.0.1:0", "--instance-id", "consumer-0"}
}

// killAndRestart kills the part in each tenth of the registrations, at a random one of them, starts it again at once, and leaves it running in the end.
func killAndRestart(t *testing.T, random *rand.Rand, done, killed *atomic.Int64, args []string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	p, err := launch(t, args...)
	for i := int64(0); i < kills && err == nil; i++ {
		for at := (i*registrations + random.Int64N(registrations)) / kills; done.Load() < at; {
			select {
			case <-tick.C:
			case <-p.exited:
				t.Errorf("%s ended by itself:\n%s", p.name, p.lastLines())
				return
			}
		}
		p.kill()
		killed.Add(1)
		p, err = launch(t, args...)
	}
	if err != nil {
		t.Error(err)
	}
}

// register posts the registrations from eight clients, each tenth with an address that is known already, and returns how many were accepted.
// done counts the answers.
func (s *parts) register(t *testing.T, done *atomic.Int64) (accepted int64) {
	t.Helper()
	var next, ok atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for i := next.Add(1); i <= registrations; i = next.Add(1) {
				address := i
				if i%10 == 0 {
					address = i - 5
				}
				err := post(t.Context(), s.api, fmt.Sprintf("user%d@example.com", address))
				done.Add(1)
				if err != nil {
					t.Errorf("registration %d: %v", i, err)
					continue
				}
				ok.Add(1)
			}
		})
	}
	clients.Wait()
	return ok.Load()
}

func post(ctx context.Context, api, email string) error {
	body, err := json.Marshal(map[string]string{"email": email, "password": "a-long-enough-password"})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+api+"/api/v1/users", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusAccepted {
		return fmt.Errorf("%s: %s", response.Status, answer)
	}
	return nil
}

func allSent(ctx context.Context, pool *pgxpool.Pool) error {
	var total, sent int64
	if err := pool.QueryRow(ctx, `select count(*), count(*) filter (where state = 'SENT') from notifications`).Scan(&total, &sent); err != nil {
		return err
	}
	if sent != total {
		return fmt.Errorf("%d of %d are SENT", sent, total)
	}
	return nil
}

// published counts what the topic holds.
type published struct{ records, ids, commits, aborts int }

// publishedEvents compares the topic with the outbox table: each committed event must be there, once, and nothing else.
func (s *parts) publishedEvents(t *testing.T, pool *pgxpool.Pool) published {
	t.Helper()
	rows, err := pool.Query(t.Context(), `select id::text from outbox_events`)
	if err != nil {
		t.Fatal(err)
	}
	appended, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	missing := make(map[string]bool, len(appended))
	for _, id := range appended {
		missing[id] = true
	}
	records, commits, aborts := committed(t, s.broker.Brokers[0], registrationTopic)
	seen := make(map[string]bool, len(records))
	for _, r := range records {
		for _, h := range r.Headers {
			if h.Key == record.HeaderID {
				id := string(h.Value)
				if !missing[id] && !seen[id] {
					t.Errorf("event %s is in the topic and not in the outbox", id)
				}
				seen[id] = true
				delete(missing, id)
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d of %d committed events are missing in the topic", len(missing), len(appended))
	}
	if again := len(records) - len(seen); again != 0 {
		t.Errorf("%d events are in the topic again, want none", again)
	}
	return published{records: len(records), ids: len(seen), commits: commits, aborts: aborts}
}

// checkEffects compares the outbox with the consumer's side: one inbox row and one sent mail effect for each event.
func checkEffects(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for what, query := range map[string]string{
		"events without exactly one inbox row": `select count(*) from outbox_events o where (select count(*) from inbox i where i.msg_id = o.id) <> 1`,
		"events without a sent mail effect":    `select count(*) from outbox_events o where not exists (select from mail_effects e where e.id = o.id and e.state = 'sent')`,
		"mail effects without an event":        `select count(*) from mail_effects e where not exists (select from outbox_events o where o.id = e.id)`,
		"notifications with several effects":   `select count(*) from (select from mail_effects group by notification_id having count(*) > 1) several`,
	} {
		if got := count(t, pool, query); got != 0 {
			t.Errorf("%s = %d, want 0", what, got)
		}
	}
}

func count(t *testing.T, pool *pgxpool.Pool, query string) (n int64) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func repeated(mails map[string]int) (n int) {
	for _, times := range mails {
		if times > 1 {
			n++
		}
	}
	return n
}
