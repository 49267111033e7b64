package contract_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/internal/pgtest"
)

// fast is a configuration for a test's own database and slot that fails without waiting long.
func fast(t *testing.T, url, slot string) debezium.Config {
	t.Helper()
	return debezium.Config{
		Name: slot, Slot: slot, TopicPrefix: slot, Database: databaseOf(t, url),
		Tuning: debezium.Tuning{Poll: 10 * time.Millisecond, Retries: 1, RetryWait: 100 * time.Millisecond},
	}
}

// demandPasswords makes the server ask role for a password, which a test's server otherwise does of nobody.
func demandPasswords(o outbox, role string) {
	o.t.Helper()
	var file string
	if err := o.pool.QueryRow(o.t.Context(), "show hba_file").Scan(&file); err != nil {
		o.t.Fatal(err)
	}
	o.exec(fmt.Sprintf(`copy (values ('host all %s 127.0.0.1/32 scram-sha-256'), ('host all all 127.0.0.1/32 trust'), ('host replication all 127.0.0.1/32 trust'))
		to '%s'`, role, strings.ReplaceAll(file, "'", "''")))
	o.exec(`select pg_reload_conf()`)
}

func TestWhatCannotRunIsExplained(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	server := pgtest.StartServer(t)
	url := server.Migrated(t)
	o := outbox{t: t, pool: pgtest.Pool(t, url)}
	o.exec(`create role with_password login replication password 'right'`)
	o.exec(`create role without_replication login`)
	demandPasswords(o, "with_password")
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, c *debezium.Config)
		tweak  map[string]string
		cause  debezium.Cause
		says   []string
	}{
		{
			name: "a plugin that the workers lack", tweak: map[string]string{"connector.class": "org.example.Nothing"},
			cause: "plugin_unknown", says: []string{"org.example.Nothing", "plugin.path"},
		},
		{
			name: "a wrong password",
			change: func(_ *testing.T, c *debezium.Config) {
				c.Database.User, c.Database.Password, c.Database.AllowLiteralPassword = "with_password", "wrong-password", true
			},
			cause: "password_wrong", says: []string{"with_password", "database.password"},
		},
		{
			name: "a secret that is not there",
			change: func(_ *testing.T, c *debezium.Config) {
				c.Database.Password = "${file:" + s.worker.Secrets() + "/nonexistent:password}"
			},
			cause: "secret_unreadable", says: []string{s.worker.Secrets() + "/nonexistent"},
		},
		{
			name: "a server that is not there",
			change: func(t *testing.T, c *debezium.Config) {
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				c.Database.Port = listener.Addr().(*net.TCPAddr).Port
				listener.Close()
			},
			cause: "database_unreachable", says: []string{"cannot reach PostgreSQL at 127.0.0.1:"},
		},
		{
			name:   "a database that is not there",
			change: func(_ *testing.T, c *debezium.Config) { c.Database.Name = "nowhere" },
			cause:  "database_missing", says: []string{"nowhere"},
		},
		{
			name:   "a publication that is not there",
			change: func(_ *testing.T, c *debezium.Config) { c.Publication = "forgotten" },
			cause:  "publication_missing", says: []string{"forgotten", "walpost migrate up"},
		},
		{
			name:   "a role that may not create the slot",
			change: func(_ *testing.T, c *debezium.Config) { c.Database.User = "without_replication" },
			cause:  "replication_denied", says: []string{"alter role without_replication replication"},
		},
		{
			name: "a role that may not read the slot",
			change: func(t *testing.T, c *debezium.Config) {
				c.Database.User, c.Slot = "without_replication", createSlot(t, o.pool)
			},
			cause: "replication_denied", says: []string{"alter role without_replication replication"},
		},
		{
			name: "a slot that another reader holds",
			change: func(t *testing.T, c *debezium.Config) {
				c.Slot = createSlot(t, o.pool)
				hold(t, url, c.Slot)
			},
			tweak: map[string]string{"slot.max.retries": "0", "slot.retry.delay.ms": "10"},
			cause: "slot_active", says: []string{"Another reader holds slot", "walpost slot status"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := fast(t, url, pgtest.SlotName(t))
			if tc.change != nil {
				tc.change(t, &c)
			}
			config, err := c.Connector()
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range tc.tweak {
				config[key] = value
			}
			client := s.client(t)
			t.Cleanup(func() { _, _ = client.Delete(context.Background(), c.Name) }) // most were never made
			_, err = client.Apply(t.Context(), config, time.Minute)
			if err == nil { // Debezium tries for a while, and is RUNNING
				err = &debezium.NotRunningError{Status: awaitFailure(t, client, c.Name)}
			}
			explanation := explanationOf(err)
			if explanation == nil || explanation.Cause != tc.cause {
				t.Fatalf("Apply(%s) = %v, want the cause %s", c.Name, err, tc.cause)
			}
			for _, want := range tc.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Apply(%s) = %v, want it to say %q", c.Name, err, want)
				}
			}
			if strings.Contains(err.Error(), "wrong-password") {
				t.Errorf("Apply(%s) = %v, which tells the password", c.Name, err)
			}
		})
	}
}

// awaitFailure waits until a part of the connector has failed. Kafka Connect says so when the task has been stopped, which may take it half a minute.
func awaitFailure(t *testing.T, client *debezium.Client, name string) (status debezium.Status) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Minute, errors.New("waited two minutes for connector "+name+" to fail"))
	defer cancel()
	if err := until(ctx, func(ctx context.Context) (err error) {
		if status, err = client.Status(ctx, name); err == nil && status.Failed() == nil {
			err = errors.New("it has not failed")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return status
}

// explanationOf is the first explanation in an error of Apply, or nil.
func explanationOf(err error) *debezium.Explanation {
	var refused *debezium.RefusedError
	if errors.As(err, &refused) {
		return refused.Problems[0].Explanation
	}
	var notRunning *debezium.NotRunningError
	if errors.As(err, &notRunning) && len(notRunning.Status.Failed()) > 0 {
		return notRunning.Status.Failed()[0].Explanation
	}
	return nil
}

// hold reads a slot until the test ends, as another relay would.
func hold(t *testing.T, url, slot string) {
	t.Helper()
	config, err := pgconn.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the slot is released when the socket closes
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

// waitFor asks the database until the answer is true.
func (o outbox) waitFor(what, sql string, args ...any) {
	o.t.Helper()
	ctx, cancel := context.WithTimeoutCause(o.t.Context(), time.Minute, errors.New("waited a minute for "+what))
	defer cancel()
	if err := until(ctx, func(ctx context.Context) error {
		var done bool
		err := o.pool.QueryRow(ctx, sql, args...).Scan(&done)
		if err == nil && !done {
			err = errors.New("not yet")
		}
		return err
	}); err != nil {
		o.t.Fatal(err)
	}
}

func TestAConnectorFromItsBeginningToItsEnd(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	url := pgtest.StartServer(t).Migrated(t)
	o := outbox{t: t, pool: pgtest.Pool(t, url), eventType: "life"}
	o.exec(`create role relay login replication`)
	slot := createSlot(t, o.pool)
	c := fast(t, url, slot)
	c.Database.User, c.Mapping.Topic = "relay", "life."+slot
	c.ExactlyOnce, c.Tuning.Compression = true, "lz4"
	s.createTopics(t, c.Mapping.Topic)
	reader := s.reader(t, c.Mapping.Topic)
	var rows []row
	publish := func() { rows = append(rows, o.insert(o.pool, nil)) }

	s.apply(t, c)
	publish()
	reader.read(len(rows))

	client := s.client(t)
	config, err := c.Connector()
	if err != nil {
		t.Fatal(err)
	}
	if plan, err := client.Plan(t.Context(), config); err != nil || len(plan.Changes)+len(plan.Problems) > 0 {
		t.Errorf("Plan(what runs) = %v, %v, want nothing to do", plan, err)
	}

	// The role loses its right: the task fails, the watcher reports why and restarts it until the right is back.
	events := make(chan debezium.WatchEvent, 100)
	watching, stop := context.WithCancel(t.Context())
	watched := make(chan error, 1)
	go func() {
		watched <- client.Watch(watching, slot, debezium.WatchConfig{
			Interval: 100 * time.Millisecond, BackoffMin: 500 * time.Millisecond, Report: func(e debezium.WatchEvent) { events <- e },
		})
	}()
	await := func(step debezium.WatchStep) debezium.WatchEvent {
		t.Helper()
		for limit := time.After(time.Minute); ; {
			select {
			case e := <-events:
				if e.Step == step {
					return e
				}
			case <-limit:
				t.Fatalf("Watch(%s) reported no step %s within a minute", slot, step)
			}
		}
	}
	await(debezium.WatchRunning)
	o.exec(`alter role relay noreplication`)
	o.exec(`select pg_terminate_backend(active_pid, 5000) from pg_replication_slots where slot_name = $1`, slot)
	if e := await(debezium.WatchFailed); e.Status.Failed()[0].Explanation.Cause != "replication_denied" {
		t.Errorf("Watch(%s) reported\n%s\nwant the cause replication_denied", slot, e.Status)
	}
	publish()
	await(debezium.WatchRestarted)
	o.exec(`alter role relay replication`)
	reader.read(len(rows))
	stop()
	if err := <-watched; err != nil {
		t.Errorf("Watch(%s) = %v, want nil at the end of its context", slot, err)
	}

	// A change of the configuration restarts the task with it; the position stays.
	c.Tuning.Batch = 100
	s.apply(t, c)
	publish()
	reader.read(len(rows))

	// Deleted, the slot stays and with it what is written meanwhile; the same connector goes on from there.
	remains, err := client.Delete(t.Context(), slot)
	if want := (debezium.Remains{Slot: slot, Publication: "walpost_outbox", Database: databaseOf(t, url).Name, Offsets: slot}); err != nil || remains != want {
		t.Errorf("Delete(%s) = %+v, %v, want %+v", slot, remains, err, want)
	}
	o.waitFor("the slot to be free and there", `select not active from pg_replication_slots where slot_name = $1`, slot)
	publish()
	s.apply(t, c)
	publish()
	reader.read(len(rows))

	var got []string
	for _, record := range reader.records[c.Mapping.Topic] {
		got = append(got, string(record.Headers[0].Value))
	}
	var want []string
	for _, r := range rows {
		want = append(want, r.id)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("published events %v, want each once and in order: %v", got, want)
	}
}

func TestAColumnThatTheTableLacksIsNamed(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	url := pgtest.StartServer(t).Migrated(t)
	o := outbox{t: t, pool: pgtest.Pool(t, url), eventType: "column"}
	c := fast(t, url, createSlot(t, o.pool))
	c.Mapping.Payload = "body"
	s.apply(t, c) // Debezium looks at a row's columns when there is one
	o.insert(o.pool, nil)
	failed := awaitFailure(t, s.client(t), c.Name).Failed()
	if e := failed[0].Explanation; e.Cause != "column_missing" || !strings.Contains(e.Meaning, "body") {
		t.Errorf("Status(%s) explains %+v, want column_missing, which names body", c.Name, e)
	}
}

// advanced asks whether the slot has been confirmed up to a position.
const advanced = `select confirmed_flush_lsn >= $2::pg_lsn from pg_replication_slots where slot_name = $1`

func lsnNow(t *testing.T, pool *pgxpool.Pool) (lsn string) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `select pg_current_wal_lsn()::text`).Scan(&lsn); err != nil {
		t.Fatal(err)
	}
	return lsn
}

func TestHeartbeatsMoveAnIdleSlotAndAreNoEvents(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	url := pgtest.StartServer(t).Migrated(t)
	o := outbox{t: t, pool: pgtest.Pool(t, url), eventType: "beat"}
	c := fast(t, url, createSlot(t, o.pool))
	c.Mapping.Topic, c.Tuning.Heartbeat = "beat."+c.Name, 100*time.Millisecond
	s.apply(t, c)
	o.exec(`create table busy as select generate_series(1, 1000)`)
	o.waitFor("the slot to pass what no publication has", advanced, c.Slot, lsnNow(t, o.pool))
	o.exec(`select pg_logical_emit_message(true, 'outbox', '{"id":"1"}'), pg_logical_emit_message(false, 'other', 'x')`)
	event := o.insert(o.pool, nil)

	reader := s.reader(t, c.Mapping.Topic, c.HeartbeatTopic())
	for len(reader.records[c.Mapping.Topic]) == 0 {
		reader.read(reader.n + 1)
	}
	if got := reader.records[c.Mapping.Topic]; len(got) != 1 || string(got[0].Headers[0].Value) != event.id {
		t.Errorf("events published: %d, want the one that was written", len(got))
	}
	if len(reader.records[c.HeartbeatTopic()]) == 0 {
		t.Errorf("no record in %s, want the signs of life there", c.HeartbeatTopic())
	}
	for topic := range s.topics(t) {
		if strings.HasPrefix(topic, c.TopicPrefix+".") {
			t.Errorf("topic %s has been made, want none for logical messages", topic)
		}
	}
}
