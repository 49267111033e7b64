package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/stacktest"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

const (
	forwardKills  = 20
	forwardRate   = 300 // events a second
	forwardGroup  = "walpost-forward"
	rawTopic      = "dbz.public.outbox_events"
	patience      = 2 * time.Minute // for anything that a busy machine may take long for
	registrationN = 20
)

// forwardTopics are those of the load, beside the one of registrations.
var forwardTopics = []string{"forward.a", "forward.b"}

// twoHops is the demo's way: a raw connector publishes rows, and a forwarder carries each to the topic of its event.
type twoHops struct {
	database, brokers, api string
	mails                  *mailServer
	pool                   *pgxpool.Pool
	client                 *kgo.Client
	admin                  *kadm.Client
	appended               atomic.Int64 // by load
}

// TestKillsOfTheForwarderLoseAndDoubleNothing is the demo's way under fire: events are appended without a pause while the forwarder is killed twenty
// times and a second one comes and goes. In the end a read_committed consumer finds each committed row once, as the event that package record makes
// of it, in order, and every registration has had its mail.
func TestKillsOfTheForwarderLoseAndDoubleNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute: run without -short")
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 2))
	sys := startTwoHops(t)

	loading, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	load.Go(func() { sys.load(loading, t) })
	begin := time.Now()
	p := start(t, sys.forwarder("--instance-id", "forwarder-0")...)
	sys.awaitForwarded(t, 1)
	for i := range forwardKills {
		sys.append(t, p, random.IntN(3*forwardRate/2)) // from before it has joined to well into its work
		p.kill()
		p = start(t, sys.forwarder("--instance-id", "forwarder-0")...)
		if i%(forwardKills/registrationN) == 0 {
			register(t, sys.api, fmt.Sprintf("killed-%d@example.com", i))
		}
		if i%5 == 4 { // now and then it gets somewhere
			sys.awaitForwarded(t, sys.forwarded(t)+1)
		}
	}
	killing := time.Since(begin)
	sys.joinAndLeave(t, random, p)
	stop()
	load.Wait()
	drained := time.Now()
	sys.awaitDrained(t)
	took := time.Since(drained)
	eventually(t, "every notification SENT", patience, func(ctx context.Context) error { return allSent(ctx, sys.pool) })
	if code := p.terminate(t); code != 0 {
		t.Errorf("exit code of the forwarder = %d, want 0:\n%s", code, p.lastLines())
	}

	result := sys.check(t)
	if n := len(sys.mails.messages()); n != registrationN {
		t.Errorf("different mails = %d, want %d", n, registrationN)
	}
	fmt.Printf("counts: seed %d, %d events at %.0f/s through a raw connector, %d kills of the forwarder in %.0f s, then a second one that came and went, "+
		"drained in %.1f s: %d of %d rows forwarded once, %d lost, %d doubled, %d committed and %d aborted transaction markers, %d of %d mails\n",
		*seed, sys.appended.Load()+registrationN, float64(sys.appended.Load())/drained.Sub(begin).Seconds(), forwardKills, killing.Seconds(), took.Seconds(),
		result.once, result.rows, result.lost, result.doubled, result.commits, result.aborts, len(sys.mails.messages()), registrationN)
}

func startTwoHops(t *testing.T) *twoHops {
	t.Helper()
	artifacts := stacktest.Artifacts(t)
	server := pgtest.StartServer(t)
	sys := &twoHops{database: server.URL(t), api: address(t), mails: startMailServer(t)}
	dir := t.TempDir()
	broker, err := kafka.Start(t.Context(), kafka.Config{
		Artifacts: artifacts, Dir: filepath.Join(dir, "kafka"), Addr: kafkaAddress(t), Settings: map[string]string{"auto.create.topics.enable": "false"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Kill)
	sys.brokers = broker.Addr()
	worker, err := connect.Start(t.Context(), connect.Config{Artifacts: artifacts, Dir: filepath.Join(dir, "connect"), Brokers: []string{sys.brokers}, Addr: address(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Kill)

	run(t, "migrate", "up", "--database-url", sys.database)
	run(t, "slot", "create", "--database-url", sys.database)
	run(t, "topics", "create", "--raw", "--kafka-brokers", sys.brokers, "--topics", strings.Join(append(slices.Clone(forwardTopics), registrationTopic), ","))
	run(t, "connector", "apply", "--raw", "--database-url", sys.database, "--connect-url", worker.URL(), "--wait", "2m")
	sys.pool = pgtest.Pool(t, sys.database)
	if sys.client, err = kgo.NewClient(kgo.SeedBrokers(sys.brokers)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sys.client.Close)
	sys.admin = kadm.NewClient(sys.client)
	start(t, "api-server", "--addr", sys.api, "--database-url", sys.database, "--ops-addr", "127.0.0.1:0", "--rate-limit", "0")
	eventually(t, "the API answers", patience, func(ctx context.Context) error { return expectBody(ctx, "http://"+sys.api+"/openapi.json", "openapi") })
	return sys
}

func (s *twoHops) forwarder(more ...string) []string {
	return append([]string{
		"kafka-consumer", "--forward", "--database-url", s.database, "--kafka-brokers", s.brokers, "--smtp-addr", s.mails.addr, "--ops-addr", "127.0.0.1:0",
		"--session-timeout", "10s",
	}, more...)
}

// load appends an event each few milliseconds until ctx ends; every row has a payload and a key that a careless step would change.
func (s *twoHops) load(ctx context.Context, t *testing.T) {
	tick := time.NewTicker(time.Second / forwardRate)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		event := outbox.Event{
			Type: forwardTopics[n%len(forwardTopics)], AggregateType: "load", AggregateID: fmt.Sprintf("ключ \"%d\"", n%30),
			Payload: json.RawMessage(fmt.Sprintf(` {"n" : %d, "text":"\u0041é€😀\"\\\ud83d</>", "number":1.50e+2, "n":[] , "pad":"%s"}`, n, strings.Repeat("x", n%2000))),
		}
		switch {
		case n%50 == 0:
			event.Payload = nil
		case n%7 == 0:
			event.Headers = map[string]string{"tenant": "ä\n\x01", "n": fmt.Sprint(n)}
		}
		err := pgx.BeginFunc(t.Context(), s.pool, func(tx pgx.Tx) error { return outboxpgx.Append(t.Context(), tx, event) })
		if err != nil {
			t.Errorf("append event %d: %v", n, err)
			return
		}
		s.appended.Add(1)
	}
}

// append waits until n more events were appended, during which the process must not end by itself.
func (s *twoHops) append(t *testing.T, p *process, n int) {
	t.Helper()
	target := s.appended.Load() + int64(n)
	eventually(t, fmt.Sprintf("%d more events appended", n), patience, func(context.Context) error {
		select {
		case <-p.exited:
			t.Fatalf("%s ended by itself:\n%s", p.name, p.lastLines())
		default:
		}
		if s.appended.Load() < target {
			return fmt.Errorf("%d of %d are", s.appended.Load(), target)
		}
		return nil
	})
}

// joinAndLeave has another forwarder, without a name, join and leave the first one, by Ctrl-C and by a kill.
func (s *twoHops) joinAndLeave(t *testing.T, random *rand.Rand, first *process) {
	t.Helper()
	for i := range 4 {
		other := start(t, s.forwarder()...)
		eventually(t, "the second forwarder has joined", patience, func(context.Context) error {
			if !slices.ContainsFunc(other.logged(), func(line string) bool { return strings.Contains(line, `"group":"walpost-forward","kind":"assigned"`) }) {
				return fmt.Errorf("it has not; it says:\n%s", other.lastLines())
			}
			return nil
		})
		s.append(t, other, forwardRate/2+random.IntN(3*forwardRate/2))
		if i == 2 {
			other.kill()
		} else if code := other.terminate(t); code != 0 {
			t.Errorf("exit code of the second forwarder = %d, want 0:\n%s", code, other.lastLines())
		}
		s.append(t, first, 1)
	}
}

// forwarded is the sum of the group's offsets.
func (s *twoHops) forwarded(t *testing.T) (n int64) {
	t.Helper()
	offsets, err := s.admin.FetchOffsets(t.Context(), forwardGroup)
	if err != nil {
		return 0 // no group yet
	}
	for _, o := range offsets[rawTopic] {
		n += max(o.At, 0)
	}
	return n
}

func (s *twoHops) awaitForwarded(t *testing.T, n int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d rows forwarded", n), patience, func(context.Context) error {
		if got := s.forwarded(t); got < n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// awaitDrained waits until every committed row is in the raw topic and the group's offsets are at its end.
func (s *twoHops) awaitDrained(t *testing.T) {
	t.Helper()
	rows := count(t, s.pool, `select count(*) from outbox_events`)
	eventually(t, "every row forwarded", patience, func(ctx context.Context) error {
		ends, err := s.admin.ListEndOffsets(ctx, rawTopic)
		if err != nil {
			return err
		}
		var published int64
		ends.Each(func(o kadm.ListedOffset) { published += o.Offset })
		if forwarded := s.forwarded(t); published < rows || forwarded < published {
			return fmt.Errorf("%d rows, %d published by the connector, %d forwarded", rows, published, forwarded)
		}
		return nil
	})
}

// forwardResult is what a read_committed consumer found.
type forwardResult struct{ rows, once, lost, doubled, commits, aborts int }

// terminate sends SIGTERM and returns the exit code.
func (p *process) terminate(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: SIGTERM: %v", p.name, err)
	}
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		t.Fatalf("%s: still running %v after SIGTERM:\n%s", p.name, patience, p.lastLines())
		return -1
	}
}

// logged are the lines on stderr so far.
func (p *process) logged() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.stderr)
}
