package connect_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/pgtest"
)

// A row goes all the way from PostgreSQL through Debezium into Kafka, before and after a crash of the worker, with exactly-once support on.
func TestDebeziumCarriesRowsOverACrashOfTheWorker(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Settings["exactly.once.source.support"] = "enabled"
	postgres := pgtest.StartServer(t).URL(t)
	execute(t, postgres, "create table sample (id int primary key, said text)")
	execute(t, postgres, "create publication sample for table sample")
	topic := "crash.public.sample"
	client, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	if _, err := kadm.NewClient(client).CreateTopic(t.Context(), 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}

	w := start(t, cfg)
	request(t, w, "POST", "/connectors", map[string]any{"name": "sample", "config": connector(t, w, postgres)})
	execute(t, postgres, "insert into sample values (1, 'before the crash')")
	expect(t, client, "before the crash")
	w.Kill()
	execute(t, postgres, "insert into sample values (2, 'during the crash')")
	start(t, cfg)
	expect(t, client, "during the crash")
}

// connector is a configuration whose user comes from a secret.
func connector(t *testing.T, w *connect.Worker, postgres string) map[string]string {
	t.Helper()
	u, err := url.Parse(postgres)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(w.Secrets(), "db.properties")
	if err := os.WriteFile(secret, []byte("user="+u.User.Username()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"connector.class": connect.Connector, "topic.prefix": "crash",
		"database.hostname": host, "database.port": port, "database.dbname": strings.TrimPrefix(u.Path, "/"),
		"database.user": "${file:" + secret + ":user}", "database.password": "none",
		"plugin.name": "pgoutput", "slot.name": "sample", "publication.name": "sample", "publication.autocreate.mode": "disabled",
		"table.include.list": "public.sample", "snapshot.mode": "initial", "poll.interval.ms": "20", "exactly.once.support": "required",
	}
}

func execute(t *testing.T, postgres, statement string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// expect waits for one record, which must hold the text.
func expect(t *testing.T, client *kgo.Client, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, fmt.Errorf("waited a minute for a record with %q", text))
	defer cancel()
	fetches := client.PollRecords(ctx, 1)
	if err := errors.Join(fetches.Err0(), context.Cause(ctx)); err != nil {
		t.Fatal(err)
	}
	if value := string(fetches.Records()[0].Value); !strings.Contains(value, text) {
		t.Errorf("record = %s, want %q in it", value, text)
	}
}
