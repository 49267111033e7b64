// Package config gathers walpost's settings into one Config.
//
// Four layers, each stronger than the one before: defaults, a YAML file, the environment, flags. All of them share one flat set of keys: the key
// `kafka-brokers` is the flag --kafka-brokers, the file's `kafka-brokers:` and the variable WALPOST_KAFKA_BROKERS. It is the only package that
// reads the environment, and it starts nothing.
//
// The invariant: a Config that Load returned is complete and valid, and the origin of each of its values is known. A key that nobody knows is an
// error that names the nearest known one, never ignored.
package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config is every setting of every command; a command uses those that it has flags for. The meaning, default and unit of a field are in the
// table of options under its key. It is a value: copy it and change the copy.
type Config struct {
	// Every command.
	File      string `koanf:"config"`
	LogLevel  string `koanf:"log-level"`
	LogFormat string `koanf:"log-format"`
	Output    string `koanf:"output"`
	Quiet     bool   `koanf:"quiet"`
	Yes       bool   `koanf:"yes"`

	// What the parts connect to.
	DatabaseURL  string   `koanf:"database-url"`
	KafkaBrokers []string `koanf:"kafka-brokers"`
	SMTPAddr     string   `koanf:"smtp-addr"`
	SMTPFrom     string   `koanf:"smtp-from"`
	SMTPTLS      string   `koanf:"smtp-tls"`
	SMTPUsername string   `koanf:"smtp-username"`
	SMTPPassword string   `koanf:"smtp-password"`

	// What the servers listen on.
	Addr      string `koanf:"addr"`
	OpsAddr   string `koanf:"ops-addr"`
	OpsPublic bool   `koanf:"ops-public"`

	// api-server.
	RateLimit      float64  `koanf:"rate-limit"`
	RateBurst      int      `koanf:"rate-burst"`
	TrustedProxies []string `koanf:"trusted-proxies"`

	// relay and slot.
	Table           string `koanf:"table"`
	Slot            string `koanf:"slot"`
	Publication     string `koanf:"publication"`
	Delivery        string `koanf:"delivery"`
	Topic           string `koanf:"topic"`
	CreateTopics    bool   `koanf:"create-topics"`
	OnUnpublishable string `koanf:"on-unpublishable"`
	PositionHeaders bool   `koanf:"position-headers"`

	// connector.
	ConnectURL           string        `koanf:"connect-url"`
	Connector            string        `koanf:"connector"`
	Raw                  bool          `koanf:"raw"`
	ConnectorDatabase    string        `koanf:"connector-database"`
	ConnectorPassword    string        `koanf:"connector-password"`
	ConnectorSSLRootCert string        `koanf:"connector-sslrootcert"`
	ConnectorExactlyOnce bool          `koanf:"connector-exactly-once"`
	ConnectorPoll        time.Duration `koanf:"connector-poll"`
	ConnectorBatch       int           `koanf:"connector-batch"`
	ConnectorCompression string        `koanf:"connector-compression"`
	Wait                 time.Duration `koanf:"wait"`

	// kafka-consumer and topics; DeadLetterTopic is the relay's as well.
	Group             string   `koanf:"group"`
	Topics            []string `koanf:"topics"`
	DeadLetterTopic   string   `koanf:"dead-letter-topic"`
	PositionMismatch  string   `koanf:"position-mismatch"`
	Concurrency       int      `koanf:"concurrency"`
	Partitions        int      `koanf:"partitions"`
	ReplicationFactor int      `koanf:"replication-factor"`

	Forward      bool   `koanf:"forward"`
	ForwardGroup string `koanf:"forward-group"`
	RawTopic     string `koanf:"raw-topic"`

	InstanceID     string        `koanf:"instance-id"`
	SessionTimeout time.Duration `koanf:"session-timeout"`

	// maintain.
	AheadDays int           `koanf:"ahead-days"`
	Every     time.Duration `koanf:"every"`

	// dev.
	ConsoleAddr  string `koanf:"console-addr"`
	PostgresAddr string `koanf:"postgres-addr"`
	PGBin        string `koanf:"pg-bin"`
	KafkaAddr    string `koanf:"kafka-addr"`
	DataDir      string `koanf:"data-dir"`
	Stack        string `koanf:"stack"`
	Relay        string `koanf:"relay"`

	// stack.
	StackDir    string `koanf:"stack-dir"`
	ConnectAddr string `koanf:"connect-addr"`
	KafkaHeap   int    `koanf:"kafka-heap"`
	ConnectHeap int    `koanf:"connect-heap"`

	// Conventions of other programs that have no key of their own.
	NoColor bool `koanf:"-"` // NO_COLOR is set, https://no-color.org
	Tracing bool `koanf:"-"` // OTEL_EXPORTER_OTLP_ENDPOINT (or ..._TRACES_ENDPOINT) is set and OTEL_SDK_DISABLED is not true

	origins map[string]string
}

// OriginDefault is the origin of a value that nobody set.
const OriginDefault = "default"

// Origin says where the value of a key comes from, in words for a person: "default", "file walpost.yaml", "env DATABASE_URL", "flag --slot".
func (c Config) Origin(key string) string { return c.origins[key] }

// Value is one setting as it is shown to people: secrets are masked.
type Value struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
}

// Values lists the settings in the order of the table of options, those of keys alone when keys are given. Secrets are masked.
func (c Config) Values(keys ...string) []Value {
	var values []Value
	fields := c.fields()
	for _, o := range options() {
		if len(keys) == 0 || slices.Contains(keys, o.Name) {
			values = append(values, Value{Key: o.Name, Value: o.show(fields[o.Name]), Origin: c.Origin(o.Name)})
		}
	}
	return values
}

func (o Option) show(value any) string {
	text := fmt.Sprint(value)
	if list, ok := value.([]string); ok {
		text = strings.Join(list, ",")
	}
	switch {
	case !o.Secret, text == "":
		return text
	case o.mask != nil:
		return o.mask(text)
	default:
		return masked
	}
}
