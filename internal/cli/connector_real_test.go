package cli_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/stacktest"
	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
)

// realConnect is a database, a real broker and a real worker of Kafka Connect with Debezium, of one test's own.
type realConnect struct {
	t       *testing.T
	url     string // of the database
	connect string // of the worker
	secrets string
	kafka   *kafkatest.Cluster
	events  int // committed
	records int // published, when the last event came
}

func startRealConnect(t *testing.T) *realConnect {
	t.Helper()
	artifacts, dir := stacktest.Artifacts(t), t.TempDir()
	_, port, _ := strings.Cut(stacktest.Addr(t), ":")
	controller, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	broker, err := kafka.Start(t.Context(), kafka.Config{
		Artifacts: artifacts, Dir: filepath.Join(dir, "kafka"), Addr: stacktest.Addr(t), ControllerPort: controller,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Kill)
	worker, err := connect.Start(t.Context(), connect.Config{
		Artifacts: artifacts, Dir: filepath.Join(dir, "connect"), Brokers: []string{broker.Addr()}, Addr: stacktest.Addr(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(worker.Kill)
	return &realConnect{
		t: t, url: pgtest.StartServer(t).URL(t), connect: worker.URL(), secrets: worker.Secrets(), kafka: &kafkatest.Cluster{Brokers: []string{broker.Addr()}},
	}
}

// run runs a command of connector, which must end with the exit code and say each of the texts, on whichever stream.
func (r *realConnect) run(code int, says []string, command string, args ...string) outcome {
	r.t.Helper()
	args = append([]string{"connector", command, "--connect-url", r.connect}, args...)
	if slices.Contains([]string{"plan", "apply", "resume", "restart"}, command) && !slices.Contains(args, "--database-url") {
		args = append(args, "--database-url", r.url)
	}
	got := walpost(r.t, nil, args...)
	if got.code != code {
		r.t.Fatalf("connector %s: exit code = %d, want %d:\n%s%s", command, got.code, code, got.stdout, got.stderr)
	}
	for _, text := range says {
		if !strings.Contains(got.stdout+got.stderr, text) {
			r.t.Errorf("connector %s says\n%s%s\nwant %q in it", command, got.stdout, got.stderr, text)
		}
	}
	return got
}

// publishes commits an event and waits until it has come, which events before it have done as well.
func (r *realConnect) publishes() {
	r.t.Helper()
	insertEvent(r.t, r.url)
	r.events++
	for n := r.events; ; n++ { // an event that came twice, by a change of relays, is no new one
		ids := make(map[string]bool)
		records := r.kafka.Records(r.t, "notif.user.registration", n, time.Minute)
		for _, rec := range records {
			ids[string(rec.Headers[0].Value)] = true
		}
		if r.records = len(records); len(ids) == r.events {
			return
		}
	}
}

func (r *realConnect) exec(sql string) {
	r.t.Helper()
	if _, err := pgtest.Pool(r.t, r.url).Exec(r.t.Context(), sql); err != nil {
		r.t.Fatal(err)
	}
}

// halts wants walpost's relay to refuse the slot of the connector, through which it does not know what was published.
func (r *realConnect) halts() {
	r.t.Helper()
	got := walpost(r.t, nil, "relay", "--ops-addr", "127.0.0.1:0", "--database-url", r.url, "--kafka-brokers", r.kafka.Brokers[0])
	if got.code != 20 || !strings.Contains(got.stderr, "walpost slot adopt") {
		r.t.Errorf("relay after a connector = exit code %d, %s, want 20 and that `walpost slot adopt` is the way on", got.code, got.stderr)
	}
}

// relay publishes an event with walpost's relay, on the slot of the connector, as the guide says.
func (r *realConnect) relay(meanwhile func()) {
	r.t.Helper()
	ok(r.t, "slot", "adopt", "--yes", "--database-url", r.url, "--kafka-brokers", r.kafka.Brokers[0])
	s := start(r.t, "relay", "--ops-addr", "127.0.0.1:0", "--database-url", r.url, "--kafka-brokers", r.kafka.Brokers[0], "--log-format", "json")
	s.says(r.t, "relay is streaming")
	r.publishes()
	meanwhile()
	if code := s.drain(r.t); code != 0 {
		r.t.Fatalf("relay: exit code = %d, want 0: %s", code, s.stderr)
	}
}

func TestTheConnectorOnRealKafkaConnect(t *testing.T) {
	t.Parallel()
	r := startRealConnect(t)
	ok(t, "topics", "create", "--kafka-brokers", r.kafka.Brokers[0])

	t.Log("what it needs is asked for")
	r.run(14, []string{"walpost migrate up"}, "apply")
	ok(t, "migrate", "up", "--database-url", r.url)
	r.run(13, []string{`publication "elsewhere" does not exist`}, "apply", "--publication", "elsewhere")
	r.run(4, []string{"walpost slot create"}, "apply")
	r.run(4, []string{"connector apply"}, "status")
	ok(t, "slot", "create", "--database-url", r.url)

	t.Log("what Kafka Connect and Debezium refuse is explained")
	r.withoutPlugin().run(1, []string{"have no connector plugin org.example.Nothing", "plugin.path"}, "apply")
	r.run(1, []string{"the workers do not offer it", "exactly.once.source.support"}, "apply", "--connector-exactly-once")
	r.run(1, []string{"cannot reach PostgreSQL at 127.0.0.1:1"}, "apply", "--connector-database", "127.0.0.1:1")
	r.passwords()
	r.run(4, nil, "status")

	t.Log("it runs, and applying it again changes nothing")
	r.run(0, []string{"connector walpost runs"}, "apply")
	r.publishes()
	r.run(0, []string{"connector walpost is as wanted"}, "plan")
	r.run(0, []string{"~ max.batch.size = 2048 -> 99"}, "plan", "--connector-batch", "99")
	r.run(0, []string{"task 0 RUNNING"}, "status")
	r.run(0, []string{"nothing of it has failed"}, "restart")
	r.run(5, []string{`calls itself "Debezium Streaming"`}, "apply", "--connector", "second")

	t.Log("stopped, it leaves its slot to walpost's relay, and takes it back")
	r.run(0, []string{"STOPPED"}, "stop")
	r.run(3, []string{"connector resume"}, "status")
	r.halts()
	r.relay(func() { r.run(5, []string{"walpost's relay"}, "resume") })
	r.run(0, []string{"has been read by another up to", "connector walpost runs"}, "resume")
	r.publishes()
	r.run(0, nil, "stop")
	if got := r.run(0, nil, "apply"); strings.Contains(got.stderr, "read by another") {
		t.Errorf("connector apply = %s, want it to go on at its own position", got.stderr)
	}
	r.publishes()

	t.Log("deleted and made again, it goes on at its own position")
	r.run(2, []string{"--yes"}, "delete")
	r.run(0, []string{"walpost slot drop --slot walpost", "goes on from there"}, "delete", "--yes")
	r.repeatsNothing(func() {
		if got := r.run(0, nil, "apply"); strings.Contains(got.stderr, "read by another") {
			t.Errorf("connector apply = %s, want it to go on at its own position", got.stderr)
		}
	})

	t.Log("deleted, and made again behind a slot that another has read, it goes on from there")
	r.deletedWhileAnotherReads()
	r.repeatsNothing(func() {
		r.run(0, []string{"has been read by another up to", "while the connector was gone", "connector walpost runs"}, "apply")
	})

	t.Log("the same on workers that cannot compare: it stops and says what to do")
	r.deletedWhileAnotherReads()
	r.outdated().run(3, []string{"older than 3.7", "stands beyond the connector's position", "walpost connector stop"}, "apply")
	r.run(3, []string{"FAILED"}, "status")
	r.run(0, nil, "stop")
	r.repeatsNothing(func() { r.run(0, []string{"has been read by another up to"}, "apply") })

	t.Log("an apply that is cut off is finished by the watcher")
	r.run(0, nil, "delete", "--yes")
	r.cutOff().run(1, []string{"/offsets"}, "apply")
	r.run(3, []string{"STOPPED", "run `walpost connector apply`"}, "status")
	r.watch()
}

// deletedWhileAnotherReads leaves no connector, and its slot so far behind its position that the server has forgotten the log of that.
func (r *realConnect) deletedWhileAnotherReads() {
	r.t.Helper()
	r.run(0, nil, "delete", "--yes")
	for range 2 { // restart_lsn follows from one checkpoint to the next
		r.exec(`checkpoint`)
		r.relay(func() {})
	}
}

// repeatsNothing brings a connector to run, which then must publish the next event and none before that again.
func (r *realConnect) repeatsNothing(apply func()) {
	r.t.Helper()
	before := r.records
	apply()
	r.publishes()
	if twice := r.records - before - 1; twice != 0 {
		r.t.Errorf("events that were published twice = %d, want none", twice)
	}
}

// passwords are kept in a file of the workers.
func (r *realConnect) passwords() {
	r.t.Helper()
	var file string
	if err := pgtest.Pool(r.t, r.url).QueryRow(r.t.Context(), "show hba_file").Scan(&file); err != nil {
		r.t.Fatal(err)
	}
	r.exec(`create role keeper login replication password 'right'`)
	r.exec(fmt.Sprintf(`copy (values ('host all keeper 127.0.0.1/32 scram-sha-256'), ('host all all 127.0.0.1/32 trust'), ('host replication all 127.0.0.1/32 trust'))
		to '%s'`, strings.ReplaceAll(file, "'", "''")))
	r.exec(`select pg_reload_conf()`)
	u, err := url.Parse(r.url)
	if err != nil {
		r.t.Fatal(err)
	}
	u.User = url.UserPassword("keeper", "right")
	secret := filepath.Join(r.secrets, "db.properties")
	args := []string{"--database-url", u.String(), "--connector-password", "${file:" + secret + ":password}"}

	r.run(1, []string{"cannot read the file of secrets " + secret}, "apply", args...)
	for password, code := range map[string]int{"wrong-password": 1, "right": 0} {
		if err := os.WriteFile(secret, []byte("password="+password+"\n"), 0o600); err != nil {
			r.t.Fatal(err)
		}
		got := r.run(code, nil, "plan", args...)
		if refused := strings.Contains(got.stdout, "PostgreSQL refuses the password of role keeper"); refused != (code == 1) {
			r.t.Errorf("connector plan with the password %s: %s", password, got.stdout)
		}
		if strings.Contains(got.stdout+got.stderr, password) && password != "right" {
			r.t.Errorf("connector plan tells the password: %s%s", got.stdout, got.stderr)
		}
	}
}

// withoutPlugin is the same worker behind a proxy that asks it for a plugin it does not have.
func (r *realConnect) withoutPlugin() *realConnect {
	return r.through(strings.NewReplacer("io.debezium.connector.postgresql.PostgresConnector", "org.example.Nothing"), strings.NewReplacer())
}

// outdated is the same worker, asked for something that it does not know either instead of the initial state of a connector.
func (r *realConnect) outdated() *realConnect {
	return r.through(strings.NewReplacer("initial_state", "initial_stage"), strings.NewReplacer("initial_stage", "initial_state"))
}

// cutOff is the same worker, which is asked what only a POST may ask instead of for a position.
func (r *realConnect) cutOff() *realConnect {
	return r.through(strings.NewReplacer("/offsets", "/restart"), strings.NewReplacer())
}

// through is the same worker behind a proxy that changes requests and answers.
func (r *realConnect) through(there, back *strings.Replacer) *realConnect {
	r.t.Helper()
	target, err := url.Parse(r.connect)
	if err != nil {
		r.t.Fatal(err)
	}
	replaced := func(body io.ReadCloser, with *strings.Replacer) (io.ReadCloser, int64) {
		text, err := io.ReadAll(body)
		if err != nil {
			r.t.Error(err)
		}
		changed := with.Replace(string(text))
		return io.NopCloser(strings.NewReader(changed)), int64(len(changed))
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(req *httputil.ProxyRequest) {
			req.SetURL(target)
			req.Out.URL.Path = there.Replace(req.Out.URL.Path)
			req.Out.Body, req.Out.ContentLength = replaced(req.In.Body, there)
		},
		ModifyResponse: func(resp *http.Response) error {
			resp.Body, resp.ContentLength = replaced(resp.Body, back)
			resp.Header.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
			return nil
		},
	})
	r.t.Cleanup(proxy.Close)
	proxied := *r
	proxied.connect = proxy.URL
	return &proxied
}

// watch finishes the connector as soon as there is a slot, and makes it again when it is gone.
func (r *realConnect) watch() {
	r.t.Helper()
	ok(r.t, "slot", "drop", "--yes", "--database-url", r.url)
	s := start(r.t, "connector", "watch", "--apply", "--connect-url", r.connect, "--database-url", r.url, "--ops-addr", "127.0.0.1:0", "--log-format", "json")
	ops := s.addr(r.t, "ops")
	s.says(r.t, "the connector cannot be applied yet")
	until(r.t, ops, "/readyz", http.StatusServiceUnavailable, "there is no slot walpost")
	ok(r.t, "slot", "create", "--skip-existing", "--database-url", r.url)
	s.says(r.t, "or made there, while the connector was gone")
	s.says(r.t, "the connector runs")
	until(r.t, ops, "/readyz", http.StatusOK)
	r.publishes()
	r.run(0, nil, "delete", "--yes")
	s.says(r.t, "the connector is applied", 2)
	s.says(r.t, "the connector runs", 2)
	r.publishes()
	r.run(0, nil, "stop")
	s.says(r.t, "somebody stopped the connector")
	if code := s.drain(r.t); code != 0 {
		r.t.Errorf("connector watch: exit code = %d, want 0: %s", code, s.stderr)
	}
	var status struct{ Connector struct{ State string } }
	got := r.run(3, nil, "status", "--output", "json")
	if err := json.Unmarshal([]byte(got.stdout), &status); err != nil || status.Connector.State != "STOPPED" {
		r.t.Errorf("connector status after watch = %s, %v, want it left as it was", got.stdout, err)
	}
}
