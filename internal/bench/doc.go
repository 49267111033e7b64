// Package bench measures who carries events faster, walpost's relay or Debezium, on a real PostgreSQL, Kafka and Kafka Connect of its own, and
// writes what it found as data, tables and plots. RunRelay measures the relays, RunPath the whole application, RunSoak walpost's relay over a long time;
// Report makes the page of what they found. Read is a part of RunRelay that runs in a process of its own, as the hidden command `walpost bench read`.
//
// It is not a test of correctness under faults, and its figures are those of one machine: it says which. What is compared is compared within one run,
// by repeats that take turns.
//
// The invariant: every event of every measurement is accounted for by its id. A measurement in which one is lost, out of the order of its key, or
// not what was written fails the whole run; doubled ones, which at least once allows, are counted and shown. Of a reader they are only counted.
//
// Words used throughout. A contestant is a way of getting events out of the log, with its settings. A lane is what a contestant has to itself for one
// measurement: slot and topic. A backlog is a number of committed events that nobody has read; to drain it is to carry all of it at once. A reader
// reads a backlog and carries nothing. A round is one turn of everybody.
package bench
