package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpost/walpost/internal/pgtest"
)

func TestConnectorSettingsThatCannotBeAreMisuse(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"connector_missing_subcommand": {"connector"},
		"connector_password_in_url":    {"connector", "apply", "--database-url", "postgres://ada:planted@127.0.0.1/orders"},
		"connector_literal_password":   {"connector", "apply", "--database-url", "postgres://ada@127.0.0.1/orders", "--connector-password", "planted"},
		"connector_database_by_socket": {"connector", "plan", "--database-url", "host=/run/postgresql user=ada dbname=orders"},
		"connector_topic_of_two":       {"connector", "plan", "--topic", "${aggregate_type}.${event_type}"},
		"connector_raw_topic":          {"connector", "plan", "--raw", "--raw-topic", "rows"},
		"connector_url":                {"connector", "status", "--connect-url", "connect:8083"},
		"connector_watch_apply":        {"connector", "watch", "--apply", "--connector", "no name", "--ops-addr", "127.0.0.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := walpost(t, nil, append(args, "--log-level", "error")...)
			golden(t, name, "walpost "+strings.Join(args, " "), got)
			if got.code != 2 || got.stdout != "" || strings.Contains(got.stderr, "planted") {
				t.Errorf("exit code = %d, stdout = %q, stderr = %q, want 2, nothing and no password", got.code, got.stdout, got.stderr)
			}
		})
	}
}

func TestKafkaConnectThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	values := map[string]string{"$CLOSED": "http://" + closedPort(t), "$DATABASE": "postgres://ada@" + closedPort(t) + "/orders"}
	runGolden(t, "connector_unreachable", values, "connector", "status", "--connect-url", "$CLOSED")
	for _, args := range [][]string{
		{"plan", "--database-url", values["$DATABASE"]},
		{"apply", "--database-url", values["$DATABASE"]},
		{"restart"},
		{"stop"},
		{"resume"},
		{"delete", "--yes"},
	} {
		got := walpost(t, nil, append([]string{"connector", "--connect-url", values["$CLOSED"]}, args...)...)
		if got.code != 1 || !strings.Contains(got.stderr, "no answer from Kafka Connect at "+values["$CLOSED"]) || !strings.Contains(got.stderr, "walpost stack up") {
			t.Errorf("connector %s = %d: %s, want exit code 1 and what to do", args[0], got.code, got.stderr)
		}
	}
}

// connectFake answers what reads a connector in one state, and nothing else.
func connectFake(t *testing.T, slot, connector, task, trace string) string {
	t.Helper()
	worker := http.NewServeMux()
	answer := func(path string, body any) {
		worker.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			if err := json.NewEncoder(w).Encode(body); err != nil {
				t.Error(err)
			}
		})
	}
	if connector != "" {
		type object = map[string]any
		tasks := []object{}
		if task != "" {
			tasks = append(tasks, object{"id": 0, "state": task, "worker_id": "w:8083", "trace": trace})
		}
		answer("/connectors/walpost/config", map[string]string{"name": "walpost", "slot.name": slot})
		answer("/connectors/walpost/status", object{"name": "walpost", "connector": object{"state": connector, "worker_id": "w:8083"}, "tasks": tasks})
	}
	worker.HandleFunc("PUT /connector-plugins/{class}/config/validate", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"configs":[]}`) })
	worker.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"error_code":404,"message":"Connector walpost not found"}`)
	})
	server := httptest.NewServer(worker)
	t.Cleanup(server.Close)
	return server.URL
}

func TestTheStatusOfAConnectorHasAnExitCode(t *testing.T) {
	t.Parallel()
	trace := "org.apache.kafka.connect.errors.ConnectException: stopped\nCaused by: org.postgresql.util.PSQLException: ERROR: must be superuser or replication role\n"
	for name, tc := range map[string]struct {
		connector, task, trace string
		code                   int
	}{
		"connector_status_running": {"RUNNING", "RUNNING", "", 0},
		"connector_status_failed":  {"RUNNING", "FAILED", trace, 3},
		"connector_status_stopped": {"STOPPED", "", "", 3},
		"connector_status_starts":  {"RUNNING", "", "", 3},
		"connector_status_none":    {"", "", "", 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := connectFake(t, "walpost", tc.connector, tc.task, tc.trace)
			if got := runGolden(t, name, map[string]string{"$CONNECT": url}, "connector", "status", "--connect-url", "$CONNECT"); got.code != tc.code {
				t.Errorf("exit code = %d, want %d", got.code, tc.code)
			}
		})
	}
	url := connectFake(t, "walpost", "STOPPED", "", "")
	runGolden(t, "connector_status_json", map[string]string{"$CONNECT": url}, "connector", "status", "--connect-url", "$CONNECT", "--output", "json", "--quiet")
	if got := walpost(t, nil, "connector", "delete", "--connect-url", url); got.code != 2 || !strings.Contains(got.stderr, "--yes") {
		t.Errorf("connector delete without an answer = %d: %s, want exit code 2 and --yes", got.code, got.stderr)
	}
}

// What the database lacks is found before Kafka Connect is asked for anything.
func TestNothingIsAppliedThatTheDatabaseCannotServe(t *testing.T) {
	t.Parallel()
	url := pgtest.StartServer(t).URL(t)
	values := map[string]string{"$URL": url, "$CONNECT": connectFake(t, "", "", "", "")}
	refused := func(name string, code int, args ...string) {
		t.Helper()
		args = append([]string{"connector", "apply", "--connect-url", "$CONNECT", "--database-url", "$URL", "--slot", "orders"}, args...)
		if got := runGolden(t, name, values, args...); got.code != code {
			t.Errorf("%s: exit code = %d, want %d", name, got.code, code)
		}
	}
	refused("connector_no_table", 14)
	ok(t, "migrate", "up", "--database-url", url)
	refused("connector_no_publication", 13, "--publication", "elsewhere")
	refused("connector_other_name", 2, "--table", "OUTBOX_events")
	refused("connector_no_slot", 4)
	pool := pgtest.Pool(t, url)
	if _, err := pool.Exec(t.Context(), `create table odd (id uuid primary key, aggregate_id text, aggregate_type name, event_type text, payload json, traceparent text, headers jsonb)`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `alter publication walpost_outbox add table odd`); err != nil {
		t.Fatal(err)
	}
	refused("connector_wrong_column", 16, "--table", "odd")
	if _, err := pool.Exec(t.Context(), `select pg_create_logical_replication_slot('orders', 'test_decoding')`); err != nil {
		t.Fatal(err)
	}
	refused("connector_other_plugin", 10)
}

func TestAPlanListsEverythingThatStandsAgainstIt(t *testing.T) {
	t.Parallel()
	url := pgtest.StartServer(t).URL(t)
	connect := connectFake(t, "", "", "", "")
	plan := func(args ...string) (outcome, connectorPlan) {
		t.Helper()
		got := walpost(t, nil, append([]string{"connector", "plan", "--connect-url", connect, "--database-url", url, "--output", "json"}, args...)...)
		var p connectorPlan
		if err := json.Unmarshal([]byte(got.stdout), &p); err != nil {
			t.Fatalf("connector plan: %v: %s%s", err, got.stdout, got.stderr)
		}
		return got, p
	}
	got, p := plan()
	if got.code != 1 || len(p.Problems) != 2 || !strings.Contains(p.Problems[0].Message, "migrate up") || !strings.Contains(p.Problems[1].Message, "slot create") {
		t.Errorf("connector plan of an empty database = %d, %+v, want exit code 1 and what is missing", got.code, p.Problems)
	}
	ok(t, "migrate", "up", "--database-url", url)
	ok(t, "slot", "create", "--database-url", url)
	pool := pgtest.Pool(t, url)
	if _, err := pool.Exec(t.Context(), `create table box (id uuid primary key, aggregate_id text, aggregate_type text default 'thing', event_type text,
		payload bytea, traceparent text, headers jsonb)`); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `alter publication walpost_outbox add table box`); err != nil {
		t.Fatal(err)
	}
	got, p = plan("--table", "box", "--connector-database", "db.example:6432", "--connector", "boxes", "--connector-sslrootcert", "/etc/ca.pem")
	if got.code != 0 || p.Exists || p.State != "" || p.Problems == nil || len(p.Problems) != 0 {
		t.Errorf("connector plan = %d, %+v, want exit code 0 and a new connector without problems: %s", got.code, p, got.stderr)
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "aggregate_type") {
		t.Errorf("warnings = %q, want the column that has a default", p.Warnings)
	}
	for setting, want := range map[string]string{
		"table.include.list": `public\.box`, "value.converter": "io.debezium.converters.BinaryDataConverter", "database.hostname": "db.example",
		"database.port": "6432", "topic.prefix": "boxes", "slot.name": "walpost", "database.sslrootcert": "/etc/ca.pem", "database.sslmode": "disable",
	} {
		if got := p.want(setting); got != want {
			t.Errorf("plan sets %s = %q, want %q", setting, got, want)
		}
	}
	if _, p = plan("--raw", "--raw-topic", "my.public.outbox_events"); p.want("name") != "outbox-connector" || p.want("topic.prefix") != "my" || p.want("transforms") != "unwrap" {
		t.Errorf("connector plan --raw = %+v, want the connector of rows", p.Changes)
	}
}

// connectorPlan is what machines read.
type connectorPlan struct {
	Exists  bool
	State   string
	Changes []struct {
		Setting string
		Want    *string
	}
	Problems []struct{ Message string }
	Warnings []string
}

func (p connectorPlan) want(setting string) string {
	for _, c := range p.Changes {
		if c.Setting == setting && c.Want != nil {
			return *c.Want
		}
	}
	return ""
}

// Kafka Connect calls a task RUNNING while it waits for its slot: who really holds it is seen in the database.
func TestASlotThatAnotherHoldsIsAConflict(t *testing.T) {
	t.Parallel()
	sys := startRelay(t)
	for name, connect := range map[string]string{
		"no connector":        connectFake(t, "", "", "", ""),
		"one that waits":      connectFake(t, "walpost", "RUNNING", "RUNNING", ""),
		"one that is stopped": connectFake(t, "walpost", "STOPPED", "", ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begin := time.Now()
			got := walpost(t, nil, "connector", "apply", "--connect-url", connect, "--database-url", sys.url)
			if got.code != 5 || !strings.Contains(got.stderr, "slot walpost is in use by walpost's relay: stop the relay first") {
				t.Errorf("connector apply under a running relay = %d: %s, want exit code 5 and what to do", got.code, got.stderr)
			}
			if took := time.Since(begin); took < 4*time.Second {
				t.Errorf("connector apply gave up after %v, want some patience with a reader that is about to leave", took)
			}
		})
	}
	t.Run("plan", func(t *testing.T) {
		t.Parallel()
		got := walpost(t, nil, "connector", "plan", "--connect-url", connectFake(t, "walpost", "STOPPED", "", ""), "--database-url", sys.url)
		if got.code != 1 || !strings.Contains(got.stdout, "walpost's relay") || !strings.Contains(got.stdout, "it is STOPPED, and apply resumes it") {
			t.Errorf("connector plan under a running relay = %d: %s%s, want exit code 1 and why", got.code, got.stdout, got.stderr)
		}
	})
	t.Run("resume", func(t *testing.T) {
		t.Parallel()
		got := walpost(t, nil, "connector", "resume", "--connect-url", connectFake(t, "walpost", "STOPPED", "", ""), "--database-url", sys.url)
		if got.code != 5 {
			t.Errorf("connector resume under a running relay = %d: %s, want exit code 5", got.code, got.stderr)
		}
	})
}

// Another reader is told from the connector itself by what Kafka Connect says of it: they may call themselves the same.
func TestASlotThatTheConnectorItselfHoldsIsNone(t *testing.T) {
	t.Parallel()
	url := pgtest.StartServer(t).URL(t)
	ok(t, "migrate", "up", "--database-url", url)
	ok(t, "slot", "create", "--database-url", url)
	hold(t, url, "walpost")
	for name, tc := range map[string]struct {
		connect string
		code    int
	}{
		"it runs":              {connectFake(t, "walpost", "RUNNING", "RUNNING", ""), 0},
		"it runs on another":   {connectFake(t, "other", "RUNNING", "RUNNING", ""), 1},
		"it is stopped":        {connectFake(t, "walpost", "STOPPED", "", ""), 1},
		"it is paused":         {connectFake(t, "walpost", "PAUSED", "PAUSED", ""), 0},
		"it has failed":        {connectFake(t, "walpost", "RUNNING", "FAILED", "java.lang.Exception: x"), 1},
		"there is none of it":  {connectFake(t, "", "", "", ""), 1},
		"it is on its way now": {connectFake(t, "walpost", "RUNNING", "UNASSIGNED", ""), 0},
	} {
		got := walpost(t, nil, "connector", "plan", "--connect-url", tc.connect, "--database-url", url)
		if got.code != tc.code || strings.Contains(got.stdout, `which calls itself "Debezium Streaming"`) != (tc.code == 1) {
			t.Errorf("connector plan where %s = %d:\n%s%s\nwant exit code %d", name, got.code, got.stdout, got.stderr, tc.code)
		}
	}
}

// hold reads a slot as Debezium does until the test ends.
func hold(t *testing.T, url, slot string) {
	t.Helper()
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["replication"], config.RuntimeParams["application_name"] = "database", "Debezium Streaming"
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) }) // the slot is released when the socket closes
	conn.Frontend().SendQuery(&pgproto3.Query{
		String: `START_REPLICATION SLOT "` + slot + `" LOGICAL 0/0 (proto_version '1', publication_names 'walpost_outbox')`,
	})
	if err := conn.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	if answer, err := conn.ReceiveMessage(t.Context()); err != nil {
		t.Fatal(err)
	} else if _, ok := answer.(*pgproto3.CopyBothResponse); !ok {
		t.Fatalf("START_REPLICATION: %#v, want a stream", answer)
	}
}
