package debezium

import (
	"maps"
	"regexp"
	"strconv"
	"time"
)

const (
	connectorClass   = "io.debezium.connector.postgresql.PostgresConnector"
	stringConverter  = "org.apache.kafka.connect.storage.StringConverter"
	jsonConverter    = "org.apache.kafka.connect.json.JsonConverter"
	bytesConverter   = "io.debezium.converters.BinaryDataConverter"
	unwrapTransform  = "io.debezium.transforms.ExtractNewRecordState"
	routerTransform  = "io.debezium.transforms.outbox.EventRouter"
	heartbeatPrefix  = "__debezium-heartbeat" // Debezium's own default of topic.heartbeat.prefix
	heartbeatMessage = "select pg_logical_emit_message(false, 'walpost_heartbeat', '')"
)

// Connector is the connector's configuration as Kafka Connect takes it. It depends on c alone. The error matches ErrInvalidConfig and names
// everything that is wrong.
func (c Config) Connector() (map[string]string, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	out := map[string]string{
		"name":            c.Name,
		"connector.class": connectorClass,
		"tasks.max":       "1", // one slot, one reader
	}
	maps.Copy(out, c.Database.settings())
	maps.Copy(out, c.source())
	maps.Copy(out, failureSettings())
	maps.Copy(out, c.Tuning.settings())
	maps.Copy(out, c.topics())
	maps.Copy(out, c.delivery())
	if c.Raw {
		maps.Copy(out, c.rows())
		return out, nil
	}
	events, err := c.events()
	maps.Copy(out, events)
	return out, err
}

func (d Database) settings() map[string]string {
	out := map[string]string{
		"database.hostname": d.Host,
		"database.port":     strconv.Itoa(d.Port),
		"database.dbname":   d.Name,
		"database.user":     d.User,
		"database.sslmode":  d.SSLMode,
	}
	if d.Password != "" {
		out["database.password"] = d.Password
	}
	if d.SSLRootCert != "" {
		out["database.sslrootcert"] = d.SSLRootCert
	}
	return out
}

// source says what is read from PostgreSQL.
// https://debezium.io/documentation/reference/3.7/connectors/postgresql.html
func (c Config) source() map[string]string {
	return map[string]string{
		"topic.prefix": c.TopicPrefix,

		// Trap: the default is decoderbufs, an extension that few servers have.
		"plugin.name": "pgoutput",

		"slot.name": c.Slot,
		// Trap: true throws away the position with every stop, and so the events of the meantime.
		"slot.drop.on.stop": "false",

		"publication.name": c.Publication,
		// Trap: the default makes a publication FOR ALL TABLES, as superuser, after the slot. The migration has made ours: inserts only, by
		// the root of the partitioned table, before any slot.
		"publication.autocreate.mode": "disabled",
		// The publication may hold other tables of the user's.
		"table.include.list": regexp.QuoteMeta(c.Table),

		// Trap: the default reads the table first and publishes every row that is still in it once more, in the order of the id. Without a
		// snapshot the connector begins where the slot stands.
		"snapshot.mode": "no_data",

		// Rows are inserted, and deleted when they have served. Updates are no events; a truncation would break the router.
		"skipped.operations": "u,d,t",
		// Trap: a tombstone for each row that is cleaned up, on the row's key.
		"tombstones.on.delete": "false",

		// Trap: every logical message of the database becomes a record of its own topic and passes the router unchanged, with a key and a value
		// that are not an event's: our heartbeats, and outbox messages that another relay is to publish.
		"message.prefix.exclude.list": ".*",
		// Trap: BEGIN and END records in a topic of their own.
		"provide.transaction.metadata": "false",

		// The defaults, on which the bytes of a record depend: bytea as bytes, times as they are.
		"binary.handling.mode": "bytes",
		"time.precision.mode":  "adaptive",
	}
}

// failureSettings make the connector stop at what it cannot publish.
func failureSettings() map[string]string {
	return map[string]string{
		// Trap: the default, warn, replaces a value that cannot be converted by null: a payload becomes a tombstone.
		"event.converting.failure.handling.mode": "fail",
		// Trap: warn and skip drop the event.
		"event.processing.failure.handling.mode": "fail",
		// Trap: all drops what a transform or a converter fails on; a source has no dead-letter topic.
		"errors.tolerance": "none",
		// The cause goes to the worker's log as well; the event does not.
		"errors.log.enable":           "true",
		"errors.log.include.messages": "false",
	}
}

func (t Tuning) settings() map[string]string {
	out := map[string]string{
		// Trap: 500 ms by default, and an event waits half of it on average.
		"poll.interval.ms": milliseconds(t.Poll),
		"max.batch.size":   strconv.Itoa(t.Batch),
		"max.queue.size":   strconv.Itoa(t.Queue),
		// Trap: no limit by default.
		"max.queue.size.in.bytes": strconv.FormatInt(t.QueueBytes, 10),

		// Trap: the position is confirmed with a record only, so that on a database where all but the outbox is busy the slot keeps WAL for ever.
		// A heartbeat alone does not help: PostgreSQL 15 and newer do not send the empty transactions of other tables, and nothing moves.
		"heartbeat.interval.ms": milliseconds(t.Heartbeat),
		// A message that is not transactional needs no table, no grant and no transaction id, and after a restart Debezium then begins at the first
		// change that the server sends (dbz#1379, mended in 3.6). The end of a message is the start of the next record, which has made the
		// transactional kind come twice (dbz#2004). Measured with 50 heartbeats a second on a busy outbox, exactly once, over some 350 killed
		// connections each: nothing lost, 1 event of 129,000 doubled with this kind, 15 of 124,000 with the transactional.
		"heartbeat.action.query": heartbeatMessage,

		// Trap: retried without end by default, and all the while Kafka Connect calls the task RUNNING: a role without REPLICATION and a
		// slot in use look healthy.
		"errors.max.retries":                  strconv.Itoa(t.Retries),
		"retriable.restart.connector.wait.ms": milliseconds(t.RetryWait),
	}
	if t.Compression != "" {
		out["producer.override.compression.type"] = t.Compression
	}
	return out
}

// topics let Kafka Connect make missing topics. Trap: without them its producer waits for the topic without end, and the task stays RUNNING.
func (c Config) topics() map[string]string {
	replication := strconv.Itoa(c.Topics.Replication)
	return map[string]string{
		"topic.creation.default.partitions":           strconv.Itoa(c.Topics.Partitions),
		"topic.creation.default.replication.factor":   replication,
		"topic.creation.groups":                       "heartbeat",
		"topic.creation.heartbeat.include":            regexp.QuoteMeta(c.HeartbeatTopic()),
		"topic.creation.heartbeat.partitions":         "1",
		"topic.creation.heartbeat.replication.factor": replication,
	}
}

func (c Config) delivery() map[string]string {
	if !c.ExactlyOnce {
		return map[string]string{"exactly.once.support": "requested"}
	}
	return map[string]string{
		// Trap: requested, the default, falls back to at least once without a word where the worker does not support it.
		"exactly.once.support": "required",
		// A transaction for each batch. The other kinds keep events back for up to a minute, or leave it to the connector, which defines none.
		"transaction.boundary": "poll",
	}
}

// events make each row the record of package record.
// https://debezium.io/documentation/reference/3.7/transformations/outbox-event-router.html
func (c Config) events() (map[string]string, error) {
	out, err := c.router()
	if err != nil {
		return nil, err
	}
	maps.Copy(out, map[string]string{
		// Trap: an envelope of the worker's choice by default, with which the payload is JSON in JSON, and the key's bytes, and so the
		// partition, are others than those of any other writer.
		"key.converter":   stringConverter,
		"value.converter": stringConverter,
		// Text as it is, and null for NULL.
		"header.converter": stringConverter,
		// Trap: four more headers in front, with the connector's name and the like.
		"extended.headers.enabled": "false",
	})
	if c.BinaryPayload {
		// Trap: StringConverter writes the Java name of a byte buffer. The delegate is for the heartbeats, which are no bytes: without it they
		// stop the task.
		out["value.converter"] = bytesConverter
		out["value.converter.delegate.converter.type"] = jsonConverter
		out["value.converter.delegate.converter.type.schemas.enable"] = "false"
	}
	return out, nil
}

// rows publish the row as a JSON object without schema: text columns, the payload among them, are JSON strings, which give the column's
// text back byte for byte when they are decoded.
func (c Config) rows() map[string]string {
	return map[string]string{
		"transforms":             "unwrap",
		"transforms.unwrap.type": unwrapTransform,
		// Trap: a NULL is replaced by the column's default, twice over.
		"transforms.unwrap.replace.null.with.default":      "false",
		"value.converter.replace.null.with.default":        "false",
		"transforms.unwrap.delete.tombstone.handling.mode": "drop",

		// Trap: the row's key is its id, which scatters the events of one thing over the partitions and so loses their order.
		"message.key.columns": regexp.QuoteMeta(c.Table) + ":" + c.Mapping.Key,

		"key.converter":                  jsonConverter,
		"key.converter.schemas.enable":   "false",
		"value.converter":                jsonConverter,
		"value.converter.schemas.enable": "false",
		"header.converter":               stringConverter,
		"extended.headers.enabled":       "false",
		// Trap: numeric as the base64 of an unscaled integer.
		"decimal.handling.mode": "string",
		// Trap: an event of 900 kB may take twice that as JSON in JSON, and the producer's limit of 1 MiB stops the task. The topic's is the same.
		"producer.override.max.request.size":       strconv.Itoa(RawMaxBytes),
		"topic.creation.default.max.message.bytes": strconv.Itoa(RawMaxBytes),
	}
}

// RawMaxBytes is what the raw topic, and whatever takes its records on, must have as max.message.bytes: twice Kafka's default. In a raw row the payload
// is a JSON string, in which each quote and each backslash of it is two bytes.
const RawMaxBytes = 2 * 1_048_588

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
