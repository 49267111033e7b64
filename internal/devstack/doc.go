// Package devstack holds what `walpost dev` runs in place of infrastructure: a development broker, a mail sink and a status page, and what one
// process needs to run many parts (a directory lock, a port check, an orderly stop).
//
// It is not for production and not a Kafka: the broker is kfake, which keeps what it acknowledged over the death of the process but not over the
// loss of power. It knows neither the relay nor the application: the page reads what they left in PostgreSQL, in the topics and in the sink.
// The invariant: everything here listens on addresses it was given, sends nothing to another machine, and is gone when its Run or Stop returned.
package devstack
