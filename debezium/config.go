package debezium

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/walpost/walpost/record"
)

// ErrInvalidConfig is what errors.Is finds in every error of Config.Connector.
var ErrInvalidConfig = errors.New("invalid configuration of the connector")

// Config describes a connector. Database is required; every other field works at its zero value.
type Config struct {
	// Name is the connector's name in Kafka Connect, which keeps the position under it: a connector of another name begins where its slot stands.
	// Defaults to walpost, with Raw to outbox-connector.
	Name string

	// Database is where the outbox is.
	Database Database

	// Slot is the replication slot. One reader has one slot; the connector makes it when it is missing, and then begins at that moment.
	// Defaults to walpost.
	Slot string

	// Publication must exist: the connector makes none. Defaults to walpost_outbox.
	Publication string

	// Table is the outbox with its schema; of a partitioned table the root. Defaults to public.outbox_events.
	Table string

	// TopicPrefix begins the names of the topics that are not events': heartbeats, and with Raw the rows. Connectors of one Kafka must not
	// share it. Defaults to walpost, with Raw to dbz.
	TopicPrefix string

	// Mapping says which column becomes which part of the record. Debezium routes by one column: a topic expression over several is refused.
	// Defaults to walpost's own table.
	Mapping record.Mapping

	// BinaryPayload says that the payload column is bytea, whose bytes become the value. Defaults to text (json, jsonb, text).
	BinaryPayload bool

	// Raw publishes the row itself, as a JSON object, to the topic RawTopic, instead of an event: for a consumer that forwards it.
	// Defaults to false.
	Raw bool

	// ExactlyOnce demands that Kafka Connect write events and position in one transaction; its workers must run with
	// exactly.once.source.support=enabled, or the configuration is refused. Defaults to at least once.
	ExactlyOnce bool

	// Tuning trades latency against load and memory.
	Tuning Tuning

	// Topics is how topics are made that are missing when the first record goes there.
	Topics Topics
}

// Database is how the workers of Kafka Connect reach PostgreSQL.
type Database struct {
	Host string // as the workers see it; required
	Port int    // defaults to 5432
	Name string // required
	User string // a role with LOGIN and REPLICATION; required

	// Password refers to a config provider of the workers, as in ${file:/etc/walpost/secrets.properties:password}: Kafka Connect stores and shows
	// configurations in clear. Defaults to none.
	Password string

	// AllowLiteralPassword lets Password be the password itself. For a machine of one's own; defaults to false.
	AllowLiteralPassword bool

	// SSLMode is disable, allow, prefer, require, verify-ca or verify-full. Defaults to prefer for a host of the loopback, else to verify-full.
	SSLMode string

	// SSLRootCert is the file of the authorities that verify-ca and verify-full trust, on the workers. Defaults to the driver's,
	// ~/.postgresql/root.crt.
	SSLRootCert string
}

// Tuning holds what a busy or a memory-bound installation may want to change.
type Tuning struct {
	// Poll is how long events wait for a batch to fill, hence the latency at low load. Whole milliseconds; defaults to 50 ms.
	Poll time.Duration

	// Batch is the largest number of events of one batch. Defaults to 2048.
	Batch int

	// Queue is the number of events held in memory, more than Batch. Defaults to four times Batch.
	Queue int

	// QueueBytes bounds the same in bytes: 8,192 events of 900 kB would be 7 GB. Defaults to 64 MiB.
	QueueBytes int64

	// Compression of the producer: none, gzip, snappy, lz4 or zstd. The workers must allow connectors to override it, as they do by default.
	// Defaults to the workers' own.
	Compression string

	// Heartbeat is the time between two signs of life, which let the slot advance while no event comes. Defaults to 10 s.
	Heartbeat time.Duration

	// Retries is how often a broken stream is begun anew, RetryWait apart, before the task is FAILED and so can be seen: until then Kafka
	// Connect calls it RUNNING. Only an event resets the count, a heartbeat does not. A server that is away while the stream begins is waited
	// for without end and does not count. Negative: without end. Defaults to 12.
	Retries int

	// RetryWait is the time between two such attempts. Defaults to 10 s.
	RetryWait time.Duration
}

// Topics says how Kafka Connect makes a topic that is missing. It must make them: a producer waits for a missing topic without end or error.
// Topics made beforehand are left as they are.
type Topics struct {
	Partitions  int // negative: the broker's default. Defaults to 3
	Replication int // negative: the broker's default. Defaults to -1
}

func (c Config) withDefaults() Config {
	name, prefix := "walpost", "walpost"
	if c.Raw {
		name, prefix = "outbox-connector", "dbz"
	}
	c.Name = cmp.Or(c.Name, name)
	c.TopicPrefix = cmp.Or(c.TopicPrefix, prefix)
	c.Slot = cmp.Or(c.Slot, "walpost")
	c.Publication = cmp.Or(c.Publication, "walpost_outbox")
	c.Table = cmp.Or(c.Table, "public.outbox_events")
	c.Mapping = c.Mapping.WithDefaults()
	c.Database.Port = cmp.Or(c.Database.Port, 5432)
	if c.Database.SSLMode == "" {
		c.Database.SSLMode = defaultSSLMode(c.Database.Host)
	}
	c.Tuning.Poll = cmp.Or(c.Tuning.Poll, 50*time.Millisecond)
	c.Tuning.Batch = cmp.Or(c.Tuning.Batch, 2048)
	c.Tuning.Queue = cmp.Or(c.Tuning.Queue, 4*c.Tuning.Batch)
	c.Tuning.QueueBytes = cmp.Or(c.Tuning.QueueBytes, 64<<20)
	c.Tuning.Heartbeat = cmp.Or(c.Tuning.Heartbeat, 10*time.Second)
	c.Tuning.Retries = max(cmp.Or(c.Tuning.Retries, 12), -1)
	c.Tuning.RetryWait = cmp.Or(c.Tuning.RetryWait, 10*time.Second)
	c.Topics.Partitions = max(cmp.Or(c.Topics.Partitions, 3), -1)
	c.Topics.Replication = max(cmp.Or(c.Topics.Replication, -1), -1)
	return c
}

func defaultSSLMode(host string) string {
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return "prefer"
	}
	return "verify-full"
}

// ConnectorName is the name under which Kafka Connect knows the connector.
func (c Config) ConnectorName() string { return c.withDefaults().Name }

// RawTopic is where the connector publishes rows when Raw is set.
func (c Config) RawTopic() string {
	c = c.withDefaults()
	return c.TopicPrefix + "." + c.Table
}

// HeartbeatTopic is where the connector publishes its signs of life, one record each Tuning.Heartbeat.
func (c Config) HeartbeatTopic() string { return heartbeatPrefix + "." + c.withDefaults().TopicPrefix }

var (
	namePattern  = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	tablePattern = regexp.MustCompile(`^[A-Za-z0-9_]+\.[A-Za-z0-9_]+$`)
	slotPattern  = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

	// referencePattern is a value that a config provider of the workers replaces, ${provider:path:key} or ${provider:key}.
	referencePattern = regexp.MustCompile(`^\$\{[^{}:]+:[^{}]+\}$`)

	sslModes     = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
	compressions = []string{"", "none", "gzip", "snappy", "lz4", "zstd"}
)

// validate reports everything that is wrong, so that one look mends all of it.
func (c Config) validate() error {
	var wrong []error
	rule := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	rule(namePattern.MatchString(c.Name), "name %q: want letters, digits and . _ -", c.Name)
	rule(slotPattern.MatchString(c.Slot), "slot %q: want 1 to 63 of a-z 0-9 _", c.Slot)
	rule(c.Publication == strings.TrimSpace(c.Publication) && !strings.ContainsAny(c.Publication, `"',\`), "publication %q: want a plain name", c.Publication)
	rule(tablePattern.MatchString(c.Table), "table %q: want schema.table, of letters, digits and _", c.Table)
	rule(namePattern.MatchString(c.TopicPrefix), "topic prefix %q: want letters, digits and . _ -", c.TopicPrefix)
	wrong = append(wrong, c.Database.validate(), c.Tuning.validate())
	if c.Raw { // the topic expression and the placed columns are the forwarder's
		wrong = append(wrong, c.Mapping.Validate())
		rule(!strings.ContainsAny(c.Mapping.Key, ",;:"), "key column %q: a name with a comma, semicolon or colon cannot be said to Debezium", c.Mapping.Key)
	} else if _, err := c.router(); err != nil {
		wrong = append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidConfig, err)
	}
	return nil
}

func (d Database) validate() error {
	var wrong []error
	for _, required := range []struct{ name, value string }{{"host", d.Host}, {"name", d.Name}, {"user", d.User}} {
		if required.value == "" {
			wrong = append(wrong, fmt.Errorf("database %s is missing", required.name))
		}
	}
	if d.Port < 1 || d.Port > 65535 {
		wrong = append(wrong, fmt.Errorf("database port %d: want 1 to 65535", d.Port))
	}
	if d.Password != "" && !d.AllowLiteralPassword && !isReference(d.Password) {
		wrong = append(wrong, errors.New("database password is given itself, and Kafka Connect shows it to whoever asks: "+
			"put it into a file on the workers and refer to it as ${file:/path/of/the/file:key}"))
	}
	if !slices.Contains(sslModes, d.SSLMode) {
		wrong = append(wrong, fmt.Errorf("sslmode %q: want one of %s", d.SSLMode, strings.Join(sslModes, ", ")))
	}
	return errors.Join(wrong...)
}

func (t Tuning) validate() error {
	var wrong []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"poll interval", t.Poll}, {"heartbeat interval", t.Heartbeat}, {"retry wait", t.RetryWait}} {
		if d.value < time.Millisecond {
			wrong = append(wrong, fmt.Errorf("%s %v: want 1ms or more", d.name, d.value))
		}
	}
	if t.Batch < 1 || t.Queue <= t.Batch {
		wrong = append(wrong, fmt.Errorf("batch of %d events with a queue of %d: the queue must be larger, the batch at least 1", t.Batch, t.Queue))
	}
	if t.QueueBytes < 1<<20 {
		wrong = append(wrong, fmt.Errorf("queue of %d bytes: want 1 MiB or more, which the largest event needs", t.QueueBytes))
	}
	if !slices.Contains(compressions, t.Compression) {
		wrong = append(wrong, fmt.Errorf("compression %q: want one of %s", t.Compression, strings.Join(compressions[1:], ", ")))
	}
	return errors.Join(wrong...)
}

func isReference(value string) bool { return referencePattern.MatchString(value) }
