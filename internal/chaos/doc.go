// Package chaos holds walpost's relay against faults: on a real PostgreSQL and a real Kafka of its own it kills, stops and cuts off whatever takes part
// in publishing, in an order that comes from a seed, and then compares what a consumer of committed records finds with what was committed.
//
// It is not a benchmark, and knows nothing of how the relay works but its claim: exactly once. How long anything takes decides what a fault meets, and
// never whether a run is good.
//
// The invariant: a run is judged by Check alone, from the history of what was written, published and seen. Where a relay may break its claim, a run with
// the fault in question finds it: the tests break the relay on purpose, in each of its rules, and see it found.
//
// Words used throughout. A run is some seconds of faults under a workload, after which everything is healed and drained; a campaign is runs with
// successive seeds. The oracle is the table into which the workload writes what it appends, in the same transaction: it tells what was committed when
// nobody else knows. A mark is a watermark of the relay, as it stands in its topic. A flaw is a way in which a history contradicts the claim.
package chaos
