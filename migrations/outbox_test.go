package migrations_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox"
)

func TestThePublicationCarriesInsertsUnderTheRootsNameAndNothingElse(t *testing.T) {
	t.Parallel()
	srv := pgtest.StartServer(t) // making a slot waits for every writer on the server
	db := pgtest.DB(t, srv.URL(t))
	up(t, db)
	exec(t, db, `select pg_create_logical_replication_slot('published', 'pgoutput')`)

	id := outbox.NewID().String()
	insert(t, db, id)
	insert(t, db, "9b2f6d5e-6c1a-4f0e-9c3b-0d6a7e8f9a1b")
	exec(t, db, `update outbox_events set aggregate_id = '2'`)
	exec(t, db, `delete from outbox_events where id = $1::text::uuid`, id)
	exec(t, db, `truncate outbox_events`)
	exec(t, db, `insert into inbox (consumer, msg_id) values (1, $1::text::uuid)`, id)

	// 'R' messages, which describe root and partitions alike, are left out. Releases before 15 would send the other transactions empty.
	got := query[string](t, db, `
		select chr(get_byte(data, 0)) || case chr(get_byte(data, 0)) when 'I' then ' ' || ('x' || encode(substr(data, 2, 4), 'hex'))::bit(32)::integer::regclass else '' end
		from pg_logical_slot_get_binary_changes('published', null, null, 'proto_version', '1', 'publication_names', 'walpost_outbox')
		where chr(get_byte(data, 0)) <> 'R'`)
	want := []string{"B", "I outbox_events", "C", "B", "I outbox_events", "C"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages of the publication (-want +got):\n%s", diff)
	}
}

func TestTheOutboxRefusesWhatCouldNotBePublished(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	for _, c := range []struct{ name, column, value, constraint string }{
		{"an empty aggregate type", "aggregate_type", "''", "outbox_events_aggregate_type_size"},
		{"an aggregate type that is too long", "aggregate_type", "repeat('a', 256)", "outbox_events_aggregate_type_size"},
		{"an empty aggregate id", "aggregate_id", "''", "outbox_events_aggregate_id_size"},
		{"an aggregate id of 1,025 bytes in 1,024 characters", "aggregate_id", "repeat('a', 1023) || 'é'", "outbox_events_aggregate_id_size"},
		{"an event type with a blank", "event_type", "'user registered'", "outbox_events_event_type_topic"},
		{"an event type that ends in a line feed", "event_type", "E'user\\n'", "outbox_events_event_type_topic"},
		{"an event type with a letter beyond ASCII", "event_type", "'usér'", "outbox_events_event_type_topic"},
		{"an event type of 250 characters", "event_type", "repeat('a', 250)", "outbox_events_event_type_topic"},
		{"two dots as event type", "event_type", "'..'", "outbox_events_event_type_topic"},
		{"a payload that is too large", "payload", "('\"' || repeat('a', 921599) || '\"')::json", "outbox_events_payload_size"},
		{"headers that are too large", "headers", "jsonb_build_object('k', repeat('a', 16384))", "outbox_events_headers_size"},
		{"an empty trace context", "traceparent", "''", "outbox_events_traceparent_size"},
		{"a trace context that is too long", "traceparent", "repeat('a', 256)", "outbox_events_traceparent_size"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = tx.Rollback() }() // nothing to keep
			if err := outbox.Append(t.Context(), tx, outbox.Event{AggregateType: "a", AggregateID: "1", Type: "t"}); err != nil {
				t.Fatal(err)
			}
			_, err = tx.ExecContext(t.Context(), "update outbox_events set "+c.column+" = "+c.value)
			if sqlState(err) != "23514" || !strings.Contains(err.Error(), c.constraint) {
				t.Errorf("%s = %s: %v, want a violation of %s", c.column, c.value, err, c.constraint)
			}
		})
	}
}

func TestTheOutboxTakesRowsOfOtherWritersWithoutTheOptionalColumns(t *testing.T) {
	t.Parallel()
	db := pgtest.DB(t, pgtest.URL(t))
	up(t, db)
	exec(t, db, `insert into outbox_events (id, aggregate_id, event_type) values (gen_random_uuid(), '1', 't')`)
	got := query[bool](t, db, `
		select num_nulls(aggregate_type, payload, headers, traceparent) = 4 and created_at between now() - interval '1 minute' and now() from outbox_events`)
	if diff := cmp.Diff([]bool{true}, got); diff != "" {
		t.Errorf("the other columns are NULL and created_at is set (-want +got):\n%s", diff)
	}
}
