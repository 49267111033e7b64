package contract_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
)

// shape is an outbox of another layout. Its table is public.box, its column n numbers the rows.
type shape struct {
	name    string
	create  string // beside column n
	mapping record.Mapping
	bytea   bool
	rows    []string // what is inserted, besides n

	// differs makes of the rows' records by package record those of Debezium, where they are known to differ. Default nil: nowhere.
	differs func(want []seen)
}

var shapes = []shape{
	{
		name:    "Debezium's names, bytes as payload",
		create:  `id uuid primary key, aggregatetype text not null, aggregateid text, type text not null, payload bytea`,
		mapping: record.Mapping{Key: "aggregateid", Placed: []string{"type:eventType"}, Topic: "outbox.event.${aggregatetype}"},
		bytea:   true,
		rows: []string{
			`gen_random_uuid(), 'shape', '1', 't', '\x00ff00'`, `gen_random_uuid(), 'shape', '1', 't', ''`, `gen_random_uuid(), 'shape', '1', 't', null`,
		},
	},
	{
		name: "columns of every type that may be placed",
		create: `id text primary key, k bigint, topic varchar(20), payload text, i2 smallint, i4 int, i8 bigint, v varchar(5), c char(5), u uuid, j json, b jsonb,
			e mood, d short`,
		mapping: record.Mapping{Key: "k", Topic: "${topic}", Placed: []string{"i2", "i4", "i8", "v", "c", "u", "j", "b", "e", "d"}},
		rows: []string{
			`'a', 1, 'every.type', 'plain text', -1, -2, -9223372036854775808, 'v', 'c', '00000000-0000-0000-0000-00000000000A', ' {"b" : 1}', ' {"b" : 1}', 'so so', 'd'`,
			`'b', 1, 'every.type', '', 32767, 0, 9223372036854775807, '', '', null, '1', '1.50', 'ok', ''`,
			`'c', 1, 'every.type', null, null, null, null, null, null, null, null, null, null, null`,
		},
	},
	{
		name:    "jsonb as payload and one topic for all",
		create:  `id uuid primary key, aggregate_id text, payload jsonb`,
		mapping: record.Mapping{Topic: "one.topic", Placed: []string{}},
		rows:    []string{`gen_random_uuid(), '1', ' {"b":1, "a":[1,2.50], "b":2}'`, `gen_random_uuid(), '1', '1e3'`},
	},
	{
		name:    "a NULL key is no key, and any partition will do",
		create:  `id uuid primary key, aggregate_id text, payload json`,
		mapping: record.Mapping{Topic: "no.key", Placed: []string{}},
		rows:    []string{`gen_random_uuid(), null, '1'`},
	},
	{
		// Kafka Connect's Struct.get gives the default of a column whose value is null, and the router reads with it.
		name:    "NULL in a column that has a default",
		create:  `id uuid primary key, aggregate_id text, payload json default '{"default":true}', kind text default 'standard', note text`,
		mapping: record.Mapping{Topic: "with.defaults", Placed: []string{"kind", "note"}},
		rows:    []string{`gen_random_uuid(), '1', null, null, null`, `gen_random_uuid(), '1', '1', 'k', 'n'`},
		differs: func(want []seen) {
			want[0].Value = `"{\"default\":true}"`
			want[0].Headers[1] = `kind="standard"`
		},
	},
}

func TestOtherTableShapes(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	server := pgtest.StartServer(t)
	for i, sh := range shapes {
		t.Run(sh.name, func(t *testing.T) {
			t.Parallel()
			url := server.URL(t)
			pool := pgtest.Pool(t, url)
			o := outbox{t: t, pool: pool}
			o.exec(`create type mood as enum ('ok', 'so so')`)
			o.exec(`create domain short as text`)
			o.exec(`create table box (n int, ` + sh.create + `)`)
			o.exec(`create publication walpost_outbox for table box with (publish = 'insert')`)
			slots := make(map[string]string)
			for name := range relays {
				slots[name] = createSlot(t, pool)
			}
			for n, values := range sh.rows {
				o.exec(fmt.Sprintf(`insert into box values (%d, %s)`, n, values))
			}
			for name, start := range relays {
				m := sh.mapping
				m.Topic = fmt.Sprintf("%s.%d.%s", name, i, m.Topic)
				topic, want := sh.want(t, pool, m)
				if name == "debezium" && sh.differs != nil {
					sh.differs(want)
				}
				s.createTopics(t, topic)
				start(t, s, source{url: url, slot: slots[name], table: "public.box", mapping: m, bytea: sh.bytea})
				reader := s.reader(t, topic)
				reader.read(len(sh.rows))
				if diff := cmp.Diff(byPartition(want), reader.seen(topic)); diff != "" {
					t.Errorf("records by partition (-of package record +of %s):\n%s", name, diff)
				}
			}
		})
	}
}

// want is what package record makes of the table's rows, and their one topic.
func (sh shape) want(t *testing.T, pool *pgxpool.Pool, m record.Mapping) (topic string, want []seen) {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// The simple protocol gives text, as the publication does.
	results, err := conn.Conn().PgConn().Exec(t.Context(), `select * from box order by n`).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var columns []record.Column
	for _, field := range results[0].FieldDescriptions {
		columns = append(columns, record.Column{Name: field.Name, TypeOID: field.DataTypeOID})
	}
	encoder, err := m.Resolve(columns)
	if err != nil {
		t.Fatal(err)
	}
	for _, values := range results[0].Rows {
		rec, err := encoder.Encode(values)
		if err != nil {
			t.Fatal(err)
		}
		topic = rec.Topic
		want = append(want, seenOf(partitioned(rec)))
	}
	return topic, want
}
