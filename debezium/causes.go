package debezium

import "regexp"

// causes is the one table from what Kafka Connect, Debezium and PostgreSQL say to what it means. $1 stands for a group of the pattern, {name} for a
// setting of the connector. The first match counts.
var causes = []struct {
	cause         Cause
	pattern       *regexp.Regexp
	meaning, next string
}{
	// The plugins of the workers.
	{
		"plugin_unknown", regexp.MustCompile(`Failed to find any class that implements Connector and which name matches ([\w.$]+)`),
		"The workers of Kafka Connect have no connector plugin $1.",
		"Unpack Debezium's PostgreSQL connector into a folder of the workers' plugin.path and restart them (`walpost stack up` brings its own).",
	},
	{
		"class_unknown", regexp.MustCompile(`Class ([\w.$]+) could not be found`),
		"The workers of Kafka Connect have no class $1.",
		"Put the archive that holds it into the connector's folder below plugin.path and restart the workers.",
	},
	{
		"secret_unreadable", regexp.MustCompile(`Could not read properties from file (\S+)|The path (\S+) is not permitted`),
		"A worker of Kafka Connect cannot read the file of secrets $1$2.",
		"Put it there on every worker, readable for the worker's account and inside the provider's allowed.paths.",
	},
	{
		"exactly_once_unsupported", regexp.MustCompile(`does not have exactly-once source support enabled`),
		"The connector demands exactly once, and the workers do not offer it.",
		"Set exactly.once.source.support=enabled on every worker (first preparing, then enabled, each with a rolling restart), or drop the demand.",
	},

	// Reaching PostgreSQL.
	{
		"password_wrong", regexp.MustCompile(`password authentication failed for user "([^"]+)"|no password was provided`),
		"PostgreSQL refuses the password of role {database.user}.",
		"Check the password where database.password points, on every worker; a reference to a missing key, or to a file outside the provider's " +
			"allowed.paths, is sent as it stands. " +
			"Then run `walpost connector restart`.",
	},
	{
		"role_missing", regexp.MustCompile(`role "([^"]+)" does not exist|role "([^"]+)" is not permitted to log in`),
		"PostgreSQL has no role $1$2 that may log in.",
		"Run `create role $1$2 login replication` as a superuser, or name another role.",
	},
	{
		"database_missing", regexp.MustCompile(`database "([^"]+)" does not exist`),
		"There is no database $1 at {database.hostname}:{database.port}.",
		"Name the database of the outbox, or create it and run `walpost migrate up`.",
	},
	{
		"access_refused", regexp.MustCompile(`pg_hba.conf`),
		"PostgreSQL admits no role {database.user} from the worker's address to database {database.dbname}.",
		"Add a line `hostssl {database.dbname} {database.user} WORKER scram-sha-256` to pg_hba.conf and reload it.",
	},
	{
		"tls", regexp.MustCompile(`does not support SSL|SSL error|PKIX|[Cc]ould not open SSL root certificate|hostname .* could not be verified`),
		"No encrypted connection to PostgreSQL at {database.hostname}:{database.port} with sslmode={database.sslmode}.",
		"Enable TLS on the server and give the workers its root certificate, or choose another sslmode.",
	},
	{
		"database_starting", regexp.MustCompile(`the database system is (starting up|shutting down|in recovery mode|not yet accepting connections)`),
		"PostgreSQL at {database.hostname}:{database.port} is $1.",
		"Wait until it accepts connections, then run `walpost connector restart`.",
	},
	{
		"connections_exhausted", regexp.MustCompile(`too many clients already|remaining connection slots are reserved|max_wal_senders`),
		"PostgreSQL at {database.hostname}:{database.port} has no connection left.",
		"Raise max_connections or max_wal_senders, or close connections; see pg_stat_activity and pg_stat_replication.",
	},
	{
		"database_unreachable", regexp.MustCompile(`Connection to \S+ refused|The connection attempt failed|UnknownHostException|Connection timed out|Connection validation timed out`),
		"The workers cannot reach PostgreSQL at {database.hostname}:{database.port}.",
		"Check host and port as the workers see them, that PostgreSQL listens there, and the network between.",
	},

	// The slot and the publication.
	{
		"replication_denied", regexp.MustCompile(`must be superuser or replication role|permission denied to (start WAL sender|use replication slots)|Only roles with the REPLICATION attribute`),
		"Role {database.user} may not replicate, so it can neither create nor read slot {slot.name}.",
		"Run `alter role {database.user} replication`, then `walpost connector restart`.",
	},
	{
		"publication_missing", regexp.MustCompile(`Publication autocreation is disabled|publication "[^"]+" does not exist`),
		"Publication {publication.name} does not exist in database {database.dbname}.",
		"Run `walpost migrate up`, which creates it, then `walpost connector restart`.",
	},
	{
		"slot_active", regexp.MustCompile(`replication slot "([^"]+)" is active for PID (\d+)`),
		"Another reader holds slot $1, the server's process $2.",
		"Stop it (`walpost slot status` shows it; it may be a walpost relay or a second connector) or give this one a slot of its own, then run `walpost connector restart`.",
	},
	{
		"slot_taken", regexp.MustCompile(`replication slot "([^"]+)" already exists`),
		"Slot $1 exists, but not as one of this database for pgoutput.",
		"See `walpost slot status`; give the connector another slot, or drop that one if nobody needs it.",
	},
	{
		"slot_lost", regexp.MustCompile(`can no longer get changes from replication slot|requested WAL segment \S+ has already been removed|cannot read from logical replication slot|has been invalidated`),
		"PostgreSQL has removed the log that slot {slot.name} had not read: events are lost to the connector.",
		"See `walpost slot status`; drop and create the slot, and publish what is missing from the rows of the outbox.",
	},
	{
		"slot_missing", regexp.MustCompile(`replication slot "[^"]+" does not exist|but this is no longer available on the server`),
		"Slot {slot.name} is gone, or stands beyond the connector's position: events in between may never have been published, so it stopped.",
		"See `walpost slot status`. If walpost's relay has read the slot meanwhile, run `walpost connector stop` and then `walpost connector resume`, which " +
			"goes on where the slot stands. If the slot is gone or new, run `walpost slot create --if-missing --skip-existing` and the same, and publish what is " +
			"missing from the rows of the outbox.",
	},
	{
		"slots_exhausted", regexp.MustCompile(`all replication slots are in use`),
		"PostgreSQL has no replication slot left for {slot.name}.",
		"Drop slots that nobody reads (`walpost slot status`) or raise max_replication_slots and restart PostgreSQL.",
	},
	{
		"wal_level", regexp.MustCompile(`wal_level`),
		"PostgreSQL at {database.hostname}:{database.port} does not write a log that can be decoded.",
		"Run `alter system set wal_level = logical` and restart PostgreSQL.",
	},
	{
		"permission_denied", regexp.MustCompile(`permission denied for (\w+) (\S+)`),
		"Role {database.user} may not use $1 $2.",
		"Grant it, then run `walpost connector restart`.",
	},

	// The row and the record.
	{
		"column_missing", regexp.MustCompile(`Unable to find \S+ field (\S+) in event|DataException: (\S+) is not a valid field name`),
		"The outbox row has no column $1$2, which the mapping names.",
		"Compare the mapping with the table, correct it and run `walpost connector apply`; or add the column.",
	},
	{
		"event_too_large", regexp.MustCompile(`RecordTooLargeException|larger than the max message size`),
		"An event is larger than its topic, or the connector's producer, admits.",
		"Raise the topic's max.message.bytes (and the producer's max.request.size), then run `walpost connector restart`.",
	},
	{
		"topic_invalid", regexp.MustCompile(`InvalidTopicException`),
		"An event's topic, made from {transforms.outbox.route.by.field}, is no valid name.",
		"Correct or delete the row, which holds up all behind it, and forbid such values by a check constraint.",
	},
	{
		"conversion", regexp.MustCompile(`Failed to properly convert data value for '([^']*)'|Failed to serialize|Error while serializing|DataException`),
		"A value of the row cannot be converted. $1",
		"Compare the column's type with the mapping and the converters; run `walpost connector plan` to see what differs from walpost's settings.",
	},

	// Kafka.
	{
		"kafka_denied", regexp.MustCompile(`Not authorized to access topics: \[([^\]]*)\]|(?:Topic|Cluster|Group|TransactionalId)AuthorizationException`),
		"Kafka does not allow the workers to write. $1",
		"Grant their principal Write and Describe on the topics, Create if they shall make them, and with exactly once Write on its transactional id.",
	},
	{
		"topic_missing", regexp.MustCompile(`Topic (\S+) not present in metadata|UnknownTopicOrPartitionException`),
		"A topic is missing. $1",
		"Run `walpost topics create`.",
	},
	{
		"producer_fenced", regexp.MustCompile(`ProducerFencedException|InvalidProducerEpochException|InvalidPidMappingException`),
		"Another task of this connector has taken over, as after a rebalance, or the workers share a group.id with others.",
		"Run `walpost connector restart`; if it comes again, give each Kafka Connect cluster a group.id of its own.",
	},
	{
		"kafka_unreachable", regexp.MustCompile(`Timed out waiting for a node assignment|Failed to connect to and describe Kafka cluster|TimeoutException`),
		"The workers cannot reach Kafka, or not in time.",
		"Check the brokers and the workers' bootstrap.servers, then run `walpost connector restart`.",
	},
	{
		"out_of_memory", regexp.MustCompile(`OutOfMemoryError`),
		"The worker ran out of memory.",
		"Lower queue and queue bytes of the connector, or give the worker more (KAFKA_HEAP_OPTS), and restart the worker.",
	},
	{
		"connection_lost", regexp.MustCompile(`I/O error occurred while sending|terminating connection due to|Connection reset|connection has been closed|EOFException|Database connection failed`),
		"The connection to PostgreSQL at {database.hostname}:{database.port} broke and did not come back in time.",
		"Check PostgreSQL, then run `walpost connector restart`; `walpost connector watch` does so by itself.",
	},
}
