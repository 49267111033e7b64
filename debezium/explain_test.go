package debezium_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walpost/walpost/debezium"
)

// The traces and messages in testdata were recorded from Kafka Connect 4.3.0 with Debezium 3.7.0.Final and PostgreSQL 15, and shortened by their frames.
func TestEveryRecordedFailureIsExplained(t *testing.T) {
	t.Parallel()
	config, err := debezium.Config{Database: debezium.Database{
		Host: "db.example.net", Name: "shop", User: "relay", Password: "hunter2", AllowLiteralPassword: true,
	}}.Connector()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("testdata", "traces", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("Glob(testdata/traces/*.txt) = %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trace, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := debezium.Explain(string(trace), config)
			if got.Cause == debezium.CauseUnknown {
				t.Errorf("Explain(%s) = %+v, want a known cause", name, got)
			}
			golden(t, "traces/"+name+".golden", fmt.Sprintf("%s\n%s\n", got.Cause, got))
		})
	}
}

func TestFailuresKnownByTheirMessage(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]debezium.Cause{
		"FATAL: permission denied to start WAL sender\n  Detail: Only roles with the REPLICATION attribute may start a WAL sender process.": "replication_denied", // PostgreSQL 16
		`ERROR: publication "p" does not exist`:                                                                 "publication_missing",
		`ERROR: replication slot "s" does not exist`:                                                            "slot_missing",
		`ERROR: can no longer get changes from replication slot "s"`:                                            "slot_lost",
		"FATAL: the database system is starting up":                                                             "database_starting",
		"FATAL: sorry, too many clients already":                                                                "connections_exhausted",
		"org.apache.kafka.common.errors.TopicAuthorizationException: Not authorized to access topics: [notif]":  "kafka_denied",
		"org.apache.kafka.common.errors.TimeoutException: Topic notif not present in metadata after 60000 ms.":  "topic_missing",
		"org.apache.kafka.common.errors.ProducerFencedException: There is a newer producer":                     "producer_fenced",
		"org.apache.kafka.common.errors.TimeoutException: Timed out waiting for a node assignment. Call: fetch": "kafka_unreachable",
		"java.lang.OutOfMemoryError: Java heap space":                                                           "out_of_memory",
		"This worker does not have exactly-once source support enabled.":                                        "exactly_once_unsupported",
		"io.debezium.DebeziumException: Failed to properly convert data value for 'a.b.c' of type x":            "conversion",
		"org.postgresql.util.PSQLException: FATAL: terminating connection due to administrator command":         "connection_lost",
		"java.lang.NullPointerException":                                                                        debezium.CauseUnknown,
		"":                                                                                                      debezium.CauseUnknown,
	} {
		got := debezium.Explain(message, nil)
		if got.Cause != want {
			t.Errorf("Explain(%q) = %s, want %s", message, got.Cause, want)
		}
		if got.Meaning == "" || got.Next == "" {
			t.Errorf("Explain(%q) = %+v, want a meaning and what to do", message, got)
		}
	}
}

func TestTheInnermostKnownMessageDecides(t *testing.T) {
	t.Parallel()
	trace := "org.apache.kafka.connect.errors.ConnectException: Tolerance exceeded in error handler\n\tat a.b(C.java:1)\n" +
		"Caused by: org.apache.kafka.connect.errors.DataException: outer\n\tat a.b(C.java:2)\n\t... 3 more\n" +
		"Caused by: org.postgresql.util.PSQLException: ERROR: replication slot \"s\" is active for PID 7\n  Detail: hidden\n\tat a.b(C.java:3)\n" +
		"Caused by: java.io.EOFException\n\tat a.b(C.java:4)\n"
	got := debezium.Explain(trace, nil)
	if want := debezium.Cause("connection_lost"); got.Cause != want {
		t.Errorf("Explain(trace).Cause = %s, want %s", got.Cause, want)
	}
	if want := `ERROR: replication slot "s" is active for PID 7 Detail: hidden`; got.Root != want {
		t.Errorf("Explain(trace).Root = %q, want %q: the innermost that has a message", got.Root, want)
	}
}

func TestAnExplanationTellsNoSecret(t *testing.T) {
	t.Parallel()
	config := map[string]string{"database.password": "hunter2", "database.user": "relay"}
	got := debezium.Explain(`java.lang.RuntimeException: cannot log in with hunter2`, config)
	if strings.Contains(fmt.Sprint(got), "hunter2") {
		t.Errorf("Explain(trace) = %v, which tells the password", got)
	}
}
