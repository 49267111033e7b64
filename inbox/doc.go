// Package inbox is the consumer side: it reads events from Kafka and changes the consumer's own PostgreSQL database exactly once for each
// of them.
//
// A Transformer is the other way to consume, for work that has no database: it makes records of messages, in Kafka transactions that hold what
// was published and how far was read. Nothing of what is said below about handlers, lanes and the inbox table concerns it.
//
// It is not a general Kafka consumer: a handler gets a transaction, and what it does outside that transaction (mail, HTTP) happens at least
// once.
//
// The invariant: a row in table inbox exists if and only if its message is durably accounted for, that is, its effect was committed in the
// same transaction or the dead-letter topic acknowledged it. The offset committed to Kafka is, for each partition, the lowest one that is
// not yet so. Messages of one key are handled one at a time, in the order of the partition.
//
// Words used throughout. An assignment is the time from getting a partition to giving it up; a partition of this package belongs to one
// assignment, so whatever comes late from an older one changes nothing. The frontier of a partition is its lowest unfinished offset. The
// window is what was read at or beyond the frontier. A lane is the queue of one key in one partition. To hold a message is to run it again
// later without having counted an attempt. To bury it is to send it to the dead-letter topic, which the undertaker does, and then to write its inbox
// row. The gate is shut while the database is out: one message at a time probes whether it is back.
package inbox
