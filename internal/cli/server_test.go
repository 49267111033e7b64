package cli_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/internal/kafkatest"
	"github.com/walpost/walpost/internal/pgtest"
)

const (
	startLimit = time.Minute
	stopLimit  = time.Minute
)

// addr waits until the part listens and returns where.
func (s *server) addr(t *testing.T, part string) string {
	t.Helper()
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	for {
		text, grown := s.stderr.snapshot()
		for line := range strings.Lines(text) {
			var record struct{ Msg, Part, Addr string }
			if json.Unmarshal([]byte(line), &record) == nil && record.Msg == "listening" && record.Part == part {
				return record.Addr
			}
		}
		select {
		case <-grown:
		case <-s.ended:
			t.Fatalf("server ended before part %s listened: %s", part, s.stderr)
		case <-deadline.C:
			t.Fatalf("part %s does not listen within %s: %s", part, startLimit, s.stderr)
		}
	}
}

// says waits until the text stands in the log, as often as times says, once by default.
func (s *server) says(t *testing.T, want string, times ...int) {
	t.Helper()
	n := append(times, 1)[0]
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	for {
		text, grown := s.stderr.snapshot()
		if strings.Count(text, want) >= n {
			return
		}
		select {
		case <-grown:
		case <-s.ended:
			t.Fatalf("server ended before it said %s %d times: %s", want, n, text)
		case <-deadline.C:
			t.Fatalf("server has not said %s %d times within %s: %s", want, n, startLimit, text)
		}
	}
}

// until polls a path of the ops listener until it answers with the code and shows the texts, and returns the answer.
func until(t *testing.T, addr, path string, code int, texts ...string) string {
	t.Helper()
	deadline := time.NewTimer(startLimit)
	defer deadline.Stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		got, body := get(t, "http://"+addr+path)
		lacks := func(text string) bool { return !strings.Contains(body, text) }
		if got == code && !slices.ContainsFunc(texts, lacks) {
			return body
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			t.Fatalf("GET %s: %d within %s, want %d with %q in it: %s", path, got, startLimit, code, texts, body)
		}
	}
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// receive takes from a channel.
func receive[T any](t *testing.T, what string, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(startLimit):
		t.Fatalf("waited %s in vain for: %s", startLimit, what)
	}
	return v
}

// drain stops the server as SIGTERM would and returns its exit code.
func (s *server) drain(t *testing.T) int {
	t.Helper()
	s.stop()
	select {
	case <-s.ended:
		return s.code
	case <-time.After(stopLimit):
		t.Fatalf("server has not drained within %s: %s", stopLimit, s.stderr)
		return -1
	}
}

func TestTheAPIServerServesUntilItIsStopped(t *testing.T) {
	t.Parallel()
	s := start(t, "api-server", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--database-url", pgtest.Migrated(t), "--log-format", "json")
	api, ops := s.addr(t, "api"), s.addr(t, "ops")
	response, err := client.Post("http://"+api+"/api/v1/users", "application/json", strings.NewReader(`{"email":"ada@example.com","password":"this-sample-password"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusAccepted {
		t.Errorf("POST /api/v1/users = %s, want 202", response.Status)
	}
	until(t, ops, "/readyz", http.StatusOK)
	if got := ok(t, "healthcheck", "--ops-addr", ops); !strings.Contains(got.stdout, "database") {
		t.Errorf("healthcheck prints %q, want the database named", got.stdout)
	}
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0: %s", code, s.stderr)
	}
}

// Not parallel: the exporter reads its endpoint from the environment of the process.
func TestARegistrationIsTracedIntoTheOutbox(t *testing.T) {
	exported := make(chan struct{}, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case exported <- struct{}{}:
		default:
		}
	}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100") // milliseconds; not left to the stop, which does not wait long
	url := pgtest.Migrated(t)
	s := startWith(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL},
		"api-server", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--database-url", url, "--log-format", "json")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr(t, "api")+"/api/v1/users",
		strings.NewReader(`{"email":"ada@example.com","password":"this-sample-password"}`))
	if err != nil {
		t.Fatal(err)
	}
	const trace = "0af7651916cd43dd8448eb211c80319c"
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var parent string
	if err := pgtest.Pool(t, url).QueryRow(t.Context(), `select traceparent from outbox_events`).Scan(&parent); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(parent, trace) || strings.Contains(parent, "b7ad6b7169203331") {
		t.Errorf("traceparent in the outbox = %s, want the caller's trace and a span of our own", parent)
	}
	receive(t, "the first export", exported)
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0: %s", code, s.stderr)
	}
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = busy.Close() }) // after the parallel subtests
	values := map[string]string{
		"$BUSY": busy.Addr().String(), "$CLOSED": "postgres://ada:secret@" + closedPort(t) + "/orders", "$EMPTY": pgtest.URL(t), "$MIGRATED": pgtest.Migrated(t),
		"$KAFKA": closedPort(t),
	}
	for name, args := range map[string][]string{
		"api_busy_port":            {"api-server", "--addr", "$BUSY", "--ops-addr", "127.0.0.1:0", "--database-url", "$MIGRATED"},
		"api_busy_ops_port":        {"api-server", "--addr", "127.0.0.1:0", "--ops-addr", "$BUSY", "--database-url", "$MIGRATED"},
		"api_database_unreachable": {"api-server", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--database-url", "$CLOSED"},
		"api_not_migrated":         {"api-server", "--addr", "127.0.0.1:0", "--ops-addr", "127.0.0.1:0", "--database-url", "$EMPTY"},
		"api_ops_public":           {"api-server", "--ops-addr", ":9464"},
		"consumer_not_migrated":    {"kafka-consumer", "--ops-addr", "127.0.0.1:0", "--database-url", "$EMPTY", "--kafka-brokers", "$KAFKA"},
		"consumer_same_topics":     {"kafka-consumer", "--ops-addr", "127.0.0.1:0", "--database-url", "$MIGRATED", "--kafka-brokers", "$KAFKA", "--topics", "a", "--dead-letter-topic", "a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runGolden(t, name, values, append(args, "--log-level", "error")...)
		})
	}
}

func TestAConsumerWaitsForWhatIsAwayAndSaysSo(t *testing.T) {
	t.Parallel()
	s := start(t, "kafka-consumer", "--ops-addr", "127.0.0.1:0", "--database-url", "postgres://ada:secret@"+closedPort(t)+"/orders",
		"--kafka-brokers", closedPort(t), "--log-format", "json")
	ops := s.addr(t, "ops")
	until(t, ops, "/readyz", http.StatusServiceUnavailable,
		`{"name":"database","status":"error"`, `{"name":"kafka","status":"error"`, `{"name":"topic","status":"error"`)
	until(t, ops, "/livez", http.StatusOK)
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0", code)
	}
	if strings.Contains(s.stderr.String(), "secret") {
		t.Errorf("the log shows the password: %s", s.stderr)
	}
}

func TestAServerIsNotReadyBeforeItKnowsItsDependencies(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it never answers, and so holds up the start
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	s := start(t, "kafka-consumer", "--ops-addr", "127.0.0.1:0", "--database-url", "postgres://ada@"+silent.Addr().String()+"/orders?sslmode=disable&connect_timeout=60",
		"--kafka-brokers", closedPort(t), "--log-format", "json")
	until(t, s.addr(t, "ops"), "/readyz", http.StatusServiceUnavailable, `"error":"starting"`)
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0: %s", code, s.stderr)
	}
}

func TestAConsumerIsReadyWhenItsDependenciesAre(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Start(t)
	ok(t, "topics", "create", "--kafka-brokers", broker.Brokers[0])
	rebalanced := make(chan struct{})
	broker.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		broker.SleepControl(func() { <-rebalanced })
		return nil, nil, false
	})
	s := start(t, "kafka-consumer", "--ops-addr", "127.0.0.1:0", "--database-url", pgtest.Migrated(t), "--kafka-brokers", broker.Brokers[0], "--log-format", "json")
	ops := s.addr(t, "ops")
	until(t, ops, "/readyz", http.StatusServiceUnavailable, `{"name":"consumer","status":"error"`, `{"name":"kafka","status":"ok"}`, `{"name":"topic","status":"ok"}`)
	close(rebalanced)
	until(t, ops, "/readyz", http.StatusOK)
	if _, metrics := get(t, "http://"+ops+"/metrics"); !strings.Contains(metrics, `walpost_health{entity="kafka",state="ok"} 1`) {
		t.Errorf("metrics do not show the health of kafka")
	}
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0: %s", code, s.stderr)
	}
}

// A broker that takes the connection and says nothing, as one does whose disk hangs, must not silence health and metrics with it.
func TestAConsumerTellsItsHealthWhileABrokerIsSilent(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	s := start(t, "kafka-consumer", "--ops-addr", "127.0.0.1:0", "--database-url", pgtest.Migrated(t), "--kafka-brokers", silent.Addr().String(), "--log-format", "json")
	ops := s.addr(t, "ops")
	until(t, ops, "/readyz", http.StatusServiceUnavailable, `{"name":"database","status":"ok"`, `{"name":"kafka","status":"error"`)
	if got := walpost(t, nil, "healthcheck", "--ops-addr", ops); got.code != 3 || !strings.Contains(got.stderr, "; kafka: ") {
		t.Errorf("healthcheck = %d %s, want exit code 3 and kafka named", got.code, got.stderr)
	}
	if code := s.drain(t); code != 0 {
		t.Errorf("exit code = %d, want 0: %s", code, s.stderr)
	}
}

func TestWhatKafkaDoesNotPermitIsSaidAsSuch(t *testing.T) {
	t.Parallel()
	broker := kafkatest.Start(t)
	broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "notif.user.registration", Err: kerr.TopicAuthorizationFailed, Count: -1})
	got := walpost(t, nil, "topics", "check", "--kafka-brokers", broker.Brokers[0])
	if got.code != 1 || !strings.Contains(got.stderr, "TOPIC_AUTHORIZATION_FAILED") || !strings.Contains(got.stderr, "ACLs Describe") || strings.Contains(got.stderr, "start it") {
		t.Errorf("topics check = %d %s, want the refusal and the ACL to grant", got.code, got.stderr)
	}
}

func TestHealthcheckNamesWhatFails(t *testing.T) {
	t.Parallel()
	s := start(t, "kafka-consumer", "--ops-addr", "127.0.0.1:0", "--database-url", "postgres://ada@"+closedPort(t)+"/orders",
		"--kafka-brokers", closedPort(t), "--log-format", "json", "--log-level", "info")
	ops := s.addr(t, "ops")
	until(t, ops, "/readyz", http.StatusServiceUnavailable, "database")
	got := walpost(t, nil, "healthcheck", "--ops-addr", ops)
	if got.code != 3 || !strings.Contains(got.stdout, "database") || !strings.Contains(got.stderr, "; database: ") {
		t.Errorf("healthcheck = %d %s %s, want exit code 3 and the database named", got.code, got.stdout, got.stderr)
	}
	runGolden(t, "healthcheck_nobody", map[string]string{"$CLOSED": closedPort(t)}, "healthcheck", "--ops-addr", "$CLOSED")
}
