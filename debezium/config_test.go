package debezium_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/debezium"
	"github.com/walpost/walpost/record"
)

func database() debezium.Database {
	return debezium.Database{Host: "db.example.net", Name: "shop", User: "relay", Password: "${file:/etc/walpost/secrets.properties:password}"}
}

func TestConnectorConfiguration(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		config debezium.Config
	}{
		{"default", debezium.Config{Database: database()}},
		{"raw", debezium.Config{Database: database(), Raw: true}},
		{"exactly-once", debezium.Config{Database: database(), ExactlyOnce: true}},
		{"tuned", debezium.Config{
			Database: database(),
			Tuning: debezium.Tuning{
				Poll: 10 * time.Millisecond, Batch: 16384, Queue: 65536, QueueBytes: 256 << 20, Compression: "lz4",
				Heartbeat: time.Minute, Retries: -1, RetryWait: time.Second,
			},
			Topics: debezium.Topics{Partitions: 12, Replication: 3},
		}},
		{"mapping", debezium.Config{
			Name: "orders", Slot: "orders", Publication: "orders_pub", Table: "shop.Outbox", TopicPrefix: "shop", BinaryPayload: true,
			Database: debezium.Database{Host: "127.0.0.1", Port: 5433, Name: "shop", User: "me", Password: "secret", AllowLiteralPassword: true},
			Mapping: record.Mapping{
				ID: "event_id", Key: "aggregateid", Payload: "body", Topic: "outbox.event.${aggregatetype}-v1", Placed: []string{"type:eventType", "tenant"},
			},
		}},
		{"one-topic", debezium.Config{Database: database(), Mapping: record.Mapping{Topic: "events", Placed: []string{}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.config.Connector()
			if err != nil {
				t.Fatalf("Connector() = %v, want no error", err)
			}
			golden(t, "connector/"+tc.name+".properties", properties(got))
		})
	}
}

func properties(config map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(config)) {
		fmt.Fprintf(&b, "%s=%s\n", key, config[key])
	}
	return b.String()
}

func TestConfigurationThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	with := func(change func(*debezium.Config)) debezium.Config {
		c := debezium.Config{Database: database()}
		change(&c)
		return c
	}
	for name, tc := range map[string]struct {
		config debezium.Config
		want   []string // in the error, all of them
	}{
		"everything that is missing is named at once": {debezium.Config{}, []string{"database host", "database name", "database user"}},
		"a literal password": {
			with(func(c *debezium.Config) { c.Database.Password = "hunter2" }), []string{"${file:/path/of/the/file:key}"},
		},
		"half a reference is a literal password": {
			with(func(c *debezium.Config) { c.Database.Password = "${file:/x:y}z" }), []string{"password is given itself"},
		},
		"a topic of two columns": {
			with(func(c *debezium.Config) { c.Mapping.Topic = "${tenant}.${event_type}" }), []string{"tenant and event_type", "one column"},
		},
		"a topic with a blank":    {with(func(c *debezium.Config) { c.Mapping.Topic = "my ${event_type}" }), []string{`topic "my ${event_type}"`, "a-z A-Z 0-9 . _ -"}},
		"a topic half open":       {with(func(c *debezium.Config) { c.Mapping.Topic = "${event_type" }), []string{"${column}"}},
		"a header twice":          {with(func(c *debezium.Config) { c.Mapping.Placed = []string{"a", "b:a"} }), []string{"written already"}},
		"a column with a comma":   {with(func(c *debezium.Config) { c.Mapping.Placed = []string{"a,b"} }), []string{"comma"}},
		"a slot in capitals":      {with(func(c *debezium.Config) { c.Slot = "Walpost" }), []string{`slot "Walpost"`}},
		"a table without schema":  {with(func(c *debezium.Config) { c.Table = "outbox" }), []string{"schema.table"}},
		"a name with a slash":     {with(func(c *debezium.Config) { c.Name = "a/b" }), []string{`name "a/b"`}},
		"a prefix with a blank":   {with(func(c *debezium.Config) { c.TopicPrefix = "a b" }), []string{"topic prefix"}},
		"a publication in quotes": {with(func(c *debezium.Config) { c.Publication = `"P"` }), []string{"publication"}},
		"a port out of range":     {with(func(c *debezium.Config) { c.Database.Port = 70000 }), []string{"70000"}},
		"an sslmode of fantasy":   {with(func(c *debezium.Config) { c.Database.SSLMode = "maybe" }), []string{"verify-full"}},
		"a queue below the batch": {with(func(c *debezium.Config) { c.Tuning.Batch, c.Tuning.Queue = 100, 100 }), []string{"queue must be larger"}},
		"a queue of few bytes":    {with(func(c *debezium.Config) { c.Tuning.QueueBytes = 1000 }), []string{"1 MiB"}},
		"a poll below a ms":       {with(func(c *debezium.Config) { c.Tuning.Poll = time.Microsecond }), []string{"poll interval"}},
		"a heartbeat backwards":   {with(func(c *debezium.Config) { c.Tuning.Heartbeat = -time.Second }), []string{"heartbeat interval"}},
		"an unknown compression":  {with(func(c *debezium.Config) { c.Tuning.Compression = "rar" }), []string{"zstd"}},
		"rows keyed by an odd column": {
			with(func(c *debezium.Config) { c.Raw, c.Mapping.Key = true, "a;b" }), []string{"semicolon"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tc.config.Connector()
			if !errors.Is(err, debezium.ErrInvalidConfig) || got != nil {
				t.Fatalf("Connector() = %v, %v, want ErrInvalidConfig", got, err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Connector() = %q, want it to say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Connector() = %q, which tells the password", err)
			}
		})
	}
}

func TestRowsAreForwardedByWhateverExpression(t *testing.T) {
	t.Parallel()
	c := debezium.Config{Database: database(), Raw: true, Mapping: record.Mapping{Topic: "${tenant}.${event_type}"}}
	if _, err := c.Connector(); err != nil {
		t.Errorf("Connector() = %v, want no error: the forwarder evaluates the expression", err)
	}
}

func TestTopicsOfTheConnector(t *testing.T) {
	t.Parallel()
	if got, want := (debezium.Config{Raw: true}).RawTopic(), "dbz.public.outbox_events"; got != want {
		t.Errorf("RawTopic() = %q, want %q", got, want)
	}
	if got, want := (debezium.Config{}).HeartbeatTopic(), "__debezium-heartbeat.walpost"; got != want {
		t.Errorf("HeartbeatTopic() = %q, want %q", got, want)
	}
}

// The names of the default columns are stated twice, here and in package record: they must be the same.
func TestDefaultMappingIsThatOfPackageRecord(t *testing.T) {
	t.Parallel()
	config, err := debezium.Config{Database: database()}.Connector()
	if err != nil {
		t.Fatal(err)
	}
	router := func(key string) string { return config["transforms.outbox."+key] }
	columns := []record.Column{
		{Name: router("table.field.event.id"), TypeOID: 2950},
		{Name: router("table.field.event.key"), TypeOID: 25},
		{Name: router("table.field.event.payload"), TypeOID: 114},
	}
	values := [][]byte{[]byte("the id"), []byte("the key"), []byte("the payload")}
	var headers []string
	for _, placed := range strings.Split(router("table.fields.additional.placement"), ",") {
		name := strings.TrimSuffix(placed, ":header")
		headers = append(headers, name)
		columns = append(columns, record.Column{Name: name, TypeOID: 25})
		values = append(values, []byte(name))
	}
	encoder, err := record.Mapping{}.Resolve(columns)
	if err != nil {
		t.Fatalf("Resolve(%v) = %v, want no error", columns, err)
	}
	got, err := encoder.Encode(values)
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Key) != "the key" || string(got.Value) != "the payload" || got.Topic != router("route.by.field") {
		t.Errorf("Encode(%q) = %+v, want key, payload and topic from the columns that the router names", values, got)
	}
	for i, h := range got.Headers[1:] {
		if h.Key != headers[i] || string(h.Value) != headers[i] {
			t.Errorf("header %d of package record is %q = %q, of the router %q", i, h.Key, h.Value, headers[i])
		}
	}
	if len(got.Headers) != len(headers)+1 {
		t.Errorf("package record writes %d headers, the router %d", len(got.Headers), len(headers)+1)
	}
}
