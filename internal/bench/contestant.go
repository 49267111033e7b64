package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Names of contestants other than walpost, as --against takes them.
const (
	Debezium        = "debezium"
	DebeziumTuned   = "debezium-tuned"
	DebeziumApplied = "debezium-applied"
	PgRecvlogical   = "pg_recvlogical" // reads and carries nothing
	WalpostRead     = "walpost-read"   // the same by walpost's source
)

// Against are the names that may stand in a list of contestants: Debezium as it comes, as fast as it gets, and as `walpost connector apply` sets it, which is
// what our users run; and those that only read.
func Against() []string {
	return []string{Debezium, DebeziumTuned, DebeziumApplied, PgRecvlogical, WalpostRead}
}

// Carrying are those of Against that carry events to Kafka.
func Carrying() []string {
	return slices.DeleteFunc(Against(), onlyReads)
}

func onlyReads(name string) bool { return name == PgRecvlogical || name == WalpostRead }

// WalpostWith is the name of walpost's relay in a delivery mode.
func WalpostWith(delivery string) string { return "walpost-" + delivery }

// exactlyOnce is walpost's relay as it publishes each event once.
const exactlyOnce = "walpost-exactly-once"

// lane is what a contestant has to itself for one measurement.
type lane struct {
	name  string // unique in the run; letters, digits and -
	slot  string // there already
	topic string // the expression that leads to the lane's topics
}

// topicOf is where events of a type go.
func (l lane) topicOf(eventType string) string { return l.name + "." + eventType }

// contestant is a way of getting events out of the log to Kafka.
type contestant interface {
	about() Contestant
	// start begins to carry the events of the lane's slot. It may return before the first one is on its way.
	start(ctx context.Context, w *world, l lane) (carrier, error)
}

// carrier is a contestant at work.
type carrier interface {
	pid() int
	// trouble is why nothing comes any more; nil when the carrier knows no reason.
	trouble(ctx context.Context) error
	stop(ctx context.Context) error
}

// needsWorker is a contestant that runs on a Kafka Connect worker, which is started for it alone.
type needsWorker interface{ worker() string }

// contestants makes those with the names that carry events, walpost in each delivery mode first.
func contestants(deliveries, against []string) ([]contestant, error) {
	var list []contestant
	for _, delivery := range deliveries {
		list = append(list, walpost{delivery})
	}
	for _, name := range against {
		if onlyReads(name) {
			continue // see reader
		}
		variant, known := debeziumVariants()[name]
		if !known {
			return nil, fmt.Errorf("contestant %q: want one of %s", name, strings.Join(Against(), ", "))
		}
		list = append(list, variant)
	}
	return list, nil
}

// rotated gives each round another order, so that nobody is always first.
func rotated[T any](list []T, round int) []T {
	at := round % max(len(list), 1)
	return slices.Concat(list[at:], list[:at])
}

// label says a delivery mode as people write it.
func label(delivery string) string { return "walpost, " + strings.ReplaceAll(delivery, "-", " ") }
