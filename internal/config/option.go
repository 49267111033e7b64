package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Option is one setting: a key of the file, a flag of the commands that register it, and a variable WALPOST_KEY of the environment.
type Option struct {
	Name    string   // as in the file and after --
	Usage   string   // one line of help
	Default any      // string, bool, int, float64, time.Duration or []string; gives the type
	Secret  bool     // masked wherever it is shown; the environment may give a file that holds it (WALPOST_KEY_FILE)
	Aliases []string // variables of the environment that are heard besides WALPOST_KEY, which wins

	check func(any) error     // nil: every value of the type will do
	mask  func(string) string // of a secret: leaves what is none in sight; nil: hides all of it
}

// Variable is the option's name in the environment.
func (o Option) Variable() string {
	return prefix + strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_"))
}

const prefix = "WALPOST_"

// Options returns the table of options.
func Options() []Option { return options() }

func find(name string) (Option, bool) {
	table := options()
	i := slices.IndexFunc(table, func(o Option) bool { return o.Name == name })
	if i < 0 {
		return Option{}, false
	}
	return table[i], true
}

func names() []string {
	var list []string
	for _, o := range options() {
		list = append(list, o.Name)
	}
	return list
}

// The table, by topic. Every default is written here and nowhere else; a command that needs another says so where it registers its flags.
// Together the defaults are the system that `walpost dev` starts.
func options() []Option {
	return slices.Concat(commonOptions(), connectionOptions(), relayOptions(), connectorOptions(), consumerOptions(), devOptions(), stackOptions())
}

func commonOptions() []Option {
	return []Option{
		{Name: "config", Default: "", Usage: "YAML file with settings, the same keys as the flags"},
		{Name: "log-level", Default: "info", Usage: "debug, info, warn or error", check: oneOf("debug", "info", "warn", "error")},
		{Name: "log-format", Default: "auto", Usage: "json, text, or auto: text on a terminal, json elsewhere", check: oneOf("auto", "json", "text")},
		{Name: "output", Default: "table", Usage: "how results are printed: table, json or yaml", check: oneOf("table", "json", "yaml")},
		{Name: "quiet", Default: false, Usage: "print results and errors only"},
		{Name: "yes", Default: false, Usage: "answer yes to every question"},
	}
}

func connectionOptions() []Option {
	return []Option{
		{
			Name: "database-url", Default: "postgres://walpost@127.0.0.1:5433/walpost?sslmode=disable", Secret: true, Aliases: []string{"DATABASE_URL"},
			Usage: "PostgreSQL, as URL or key=value; sslmode is verify-full unless the host is this machine or the URL says otherwise", check: databaseURL, mask: Redact,
		},
		{
			Name: "kafka-brokers", Default: []string{"127.0.0.1:9092"}, Aliases: []string{"KAFKA_BROKERS"},
			Usage: "brokers to begin with, host:port, separated by commas", check: brokers,
		},
		{Name: "smtp-addr", Default: "127.0.0.1:1025", Usage: "mail server, host:port", check: listenAddr},
		{Name: "smtp-from", Default: "walpost <noreply@walpost.example>", Usage: "sender of the mails", check: mailAddress},
		{
			Name: "smtp-tls", Default: "auto", check: oneOf("auto", "none", "starttls", "tls"),
			Usage: "none, starttls, tls, or auto: none to this machine, tls to port 465, else starttls",
		},
		{Name: "smtp-username", Default: "", Usage: "user at the mail server; empty: no authentication"},
		{Name: "smtp-password", Default: "", Secret: true, Usage: "password at the mail server; not a flag: WALPOST_SMTP_PASSWORD or WALPOST_SMTP_PASSWORD_FILE"},

		{Name: "addr", Default: ":5001", Usage: "address to listen on, host:port", Aliases: []string{"PORT"}, check: listenAddr},
		{Name: "ops-addr", Default: "127.0.0.1:9464", Usage: "address of health, metrics and pprof, host:port", check: listenAddr},
		{Name: "ops-public", Default: false, Usage: "let --ops-addr be reachable from other machines, without authentication"},

		{Name: "rate-limit", Default: 5.0, Usage: "registrations a second from one address; 0: no limit", check: atLeast(0.0)},
		{Name: "rate-burst", Default: 20, Usage: "registrations at once from one address", check: atLeast(1)},
		{
			Name: "trusted-proxies", Default: []string{}, Usage: "addresses or networks whose X-Forwarded-For is believed, separated by commas",
			check: each(network),
		},
	}
}

func relayOptions() []Option {
	return []Option{
		{Name: "table", Default: "outbox_events", Usage: "outbox table, schema.table or table", check: tableName},
		{Name: "slot", Default: "walpost", Usage: "replication slot", check: slotName},
		{Name: "publication", Default: "walpost_outbox", Usage: "publication that holds the outbox table", check: identifier},
		{
			Name: "delivery", Default: "exactly-once", check: oneOf(Deliveries()...),
			Usage: "exactly-once or at-least-once; on a slot through which something else published the former needs walpost slot adopt, once",
		},
		{Name: "topic", Default: "${event_type}", Usage: "topic of an event: text with ${column}", check: topicExpression},
		{Name: "create-topics", Default: false, Usage: "create a topic that an event names and the broker does not have"},
		{
			Name: "on-unpublishable", Default: "halt", check: oneOf("halt", "dead-letter"),
			Usage: "what becomes of an event that can never be published: halt the relay, or dead-letter: it goes to --dead-letter-topic",
		},
		{Name: "position-headers", Default: false, Usage: "add walpost_lsn, walpost_index and walpost_committed_at to each record"},
	}
}

func connectorOptions() []Option {
	return []Option{
		{Name: "connect-url", Default: "http://127.0.0.1:8083", Usage: "REST interface of Kafka Connect", check: httpURL},
		{Name: "connector", Default: "", Usage: "name of the connector; empty: walpost, with --raw outbox-connector"},
		{Name: "raw", Default: false, Usage: "with a connector that publishes the rows themselves, for kafka-consumer --forward"},
		{
			Name: "connector-database", Default: "", Usage: "host:port of PostgreSQL as the workers of Kafka Connect see it; empty: as in --database-url",
			check: optional(listenAddr),
		},
		{
			Name: "connector-password", Default: "", Secret: true, mask: maskLiteral,
			Usage: "where the workers find the database password, for example ${file:/etc/walpost/db.properties:password}",
		},
		{
			Name: "connector-sslrootcert", Default: "", Usage: "file of trusted authorities on the workers; empty: the one that --database-url names",
		},
		{Name: "connector-exactly-once", Default: false, Usage: "demand that Kafka Connect write events and position in one transaction"},
		{Name: "connector-poll", Default: 50 * time.Millisecond, Usage: "how long Debezium gathers events, its latency at low load", check: atLeast(time.Millisecond)},
		{Name: "connector-batch", Default: 2048, Usage: "most events of a batch; the queue is four times as long", check: atLeast(1)},
		{
			Name: "connector-compression", Default: "", Usage: "compression of Debezium's records; empty: as the workers are set",
			check: oneOf("", "none", "gzip", "snappy", "lz4", "zstd"),
		},
		{Name: "wait", Default: time.Minute, Usage: "how long to wait for the connector to do so", check: atLeast(time.Second)},
	}
}

func consumerOptions() []Option {
	return []Option{
		{Name: "group", Default: "walpost-notify", Usage: "consumer group", check: nonEmpty},
		{Name: "topics", Default: []string{"notif.user.registration"}, Usage: "topics of events, separated by commas", check: each(topicName)},
		{Name: "dead-letter-topic", Default: "eventdriven-examples.dlq", Usage: "topic of messages that could not be handled, and of events that could not be published", check: topicName},
		{
			Name: "position-mismatch", Default: "rewind", check: oneOf("rewind", "stop", "trust-kafka"),
			Usage: "where to read on when Kafka's offset is beyond the position in the database: rewind to the position, stop, or trust-kafka and skip",
		},
		{Name: "instance-id", Default: "", Usage: "name of this instance, for example its pod's: started again under it, it takes its partitions back at once"},
		{Name: "session-timeout", Default: 45 * time.Second, Usage: "how long the partitions of a consumer that died wait for another", check: atLeast(6 * time.Second)},
		{Name: "concurrency", Default: 16, Usage: "messages handled at once; one of a key at a time", check: atLeast(1)},
		{Name: "forward", Default: false, Usage: "also carry the rows of a raw connector to the topics of their events"},
		{Name: "forward-group", Default: "walpost-forward", Usage: "consumer group of --forward", check: nonEmpty},
		{Name: "raw-topic", Default: "dbz.public.outbox_events", Usage: "topic of a raw connector's rows", check: topicName},
		{Name: "partitions", Default: 3, Usage: "partitions of a topic", check: atLeast(1)},
		{Name: "replication-factor", Default: -1, Usage: "copies of a partition; -1: the broker's default", check: replication},
		{Name: "ahead-days", Default: 7, Usage: "days for which partitions are made ahead", check: atLeast(1)},
		{Name: "every", Default: noDuration, Usage: "repeat after this time, for example 1h; 0s: once", check: atLeast(noDuration)},
	}
}

func devOptions() []Option {
	return []Option{
		{Name: "console-addr", Default: "127.0.0.1:8090", Usage: "address of the status page, host:port", check: listenAddr},
		{Name: "postgres-addr", Default: "127.0.0.1:5433", Usage: "address of the PostgreSQL that it starts, host:port", check: listenAddr},
		{Name: "pg-bin", Default: "", Usage: "folder of PostgreSQL's programs; searched for when empty"},
		{Name: "kafka-addr", Default: "127.0.0.1:9092", Usage: "address of the broker that it starts, host:port", check: listenAddr},
		{Name: "data-dir", Default: "", Usage: "folder of the data; walpost/dev in the user's data folder when empty"},
		{Name: "stack", Default: "embedded", Usage: "what to run on: embedded, or real: Kafka and Kafka Connect as stack up starts them", check: oneOf("embedded", "real")},
		{Name: "relay", Default: "walpost", Usage: "who publishes: walpost, or debezium, which needs --stack real", check: oneOf("walpost", "debezium")},
	}
}

func stackOptions() []Option {
	return []Option{
		{Name: "stack-dir", Default: "", Usage: "folder of the real stack's data; walpost/stack in the user's data folder when empty"},
		{Name: "connect-addr", Default: "127.0.0.1:8083", Usage: "address of Kafka Connect, host:port", check: listenAddr},
		{Name: "kafka-heap", Default: 512, Usage: "most memory of Kafka's heap, in MiB", check: atLeast(128)},
		{Name: "connect-heap", Default: 512, Usage: "most memory of Kafka Connect's heap, in MiB", check: atLeast(128)},
	}
}

// Flags registers the named options on fs. A name may bring a default of its own for this command: "ops-addr=127.0.0.1:9465".
// A name that is not in the table, or a default that is no value of it, is a mistake in this program and panics.
func Flags(fs *pflag.FlagSet, names ...string) {
	for _, entry := range names {
		name, text, other := strings.Cut(entry, "=")
		o, known := find(name)
		if !known {
			panic(fmt.Sprintf("config: no option %q", name))
		}
		value := o.Default
		if other {
			var err error
			if value, err = o.parse(text); err != nil {
				panic(fmt.Sprintf("config: default of %s: %v", name, err))
			}
		}
		o.register(fs, value)
	}
}
