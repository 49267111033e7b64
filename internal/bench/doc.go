// Package bench measures who carries events faster, walpost's relay or Debezium, on a real PostgreSQL, Kafka and Kafka Connect of its own, and
// writes what it found as data, tables and plots.
//
// It is not a test of correctness under faults, and its figures are those of one machine: it says which. What is compared is compared within one run,
// by repeats that take turns.
//
// The invariant: every event of every measurement is accounted for by its id. A measurement in which one is lost, out of the order of its key, or
// not what was written fails the whole run; doubled ones, which at least once allows, are counted and shown.
//
// Words used throughout. A contestant is a way of getting events out of the log, with its settings. A lane is what a contestant has to itself for one
// measurement: slot and topic. A backlog is a number of committed events that nobody has read; to drain it is to carry all of it at once.
package bench
