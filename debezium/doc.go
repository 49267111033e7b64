// Package debezium configures Debezium's PostgreSQL connector so that it publishes an outbox exactly as walpost's own relay does, and runs it
// through the REST interface of Kafka Connect.
//
// It is not a general client of Kafka Connect and starts no process: Config makes the configuration of the one connector that an outbox needs, Client
// plans, creates, applies, explains, stops, resumes, restarts and deletes it. It speaks neither to PostgreSQL nor to Kafka and logs nothing.
//
// The invariant: a configuration made here publishes the bytes of package record, or stops with an error. It never drops, replaces or reorders
// an event silently; where Debezium's defaults would, the setting stands in connector.go with the reason. One difference no setting removes, seen in
// test/contract: a NULL in a column that has a default comes as the default. A column of type name would come as null: package record refuses it.
package debezium
