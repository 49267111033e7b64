package relay_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/kafkasink"
	"github.com/walpost/walpost/relay/pgwal"
)

// startBurying runs a relay that makes dead letters, until the test ends.
func (w *whole) startBurying(t *testing.T, delivery relay.Delivery) *running {
	t.Helper()
	sink, err := kafkasink.New(kafkasink.Config{
		Brokers: w.broker.Brokers, Delivery: delivery, DeadLetterTopic: "dead", ClientOptions: []kgo.Opt{kgo.MetadataMinAge(10 * time.Millisecond)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.run(t, w.pgSource(t, func(c *pgwal.Config) { c.DeadLetters = true }), sink)
}

// row is an insert with a payload that says its number.
func row(n int, eventType string, bytes int) string {
	return fmt.Sprintf("insert into outbox_events (id, aggregate_id, event_type, payload) values (gen_random_uuid(), 'k', %s, '%q');",
		eventType, fmt.Sprintf("%d %s", n, strings.Repeat("x", bytes)))
}

// numbers are those of the committed records of a topic, in the order of its partitions, which is that of the key, and the codes of the dead letters.
func (w *whole) numbers(t *testing.T, topic string, n int) (numbers []int, codes []string) {
	t.Helper()
	for _, rec := range w.broker.Records(t, topic, n, patience) {
		text, _, _ := strings.Cut(strings.Trim(string(rec.Value), `"`), " ")
		number, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("topic %s: value %.50q has no number", topic, rec.Value)
		}
		numbers = append(numbers, number)
		for _, h := range rec.Headers {
			if h.Key == record.HeaderDeadCode {
				codes = append(codes, string(h.Value))
			}
		}
	}
	return numbers, codes
}

// Rule 9: nothing is skipped silently.
func TestRule9WhatCanNeverBePublishedBecomesADeadLetterInCommitOrder(t *testing.T) {
	t.Parallel()
	for _, delivery := range []relay.Delivery{relay.AtLeastOnce, relay.ExactlyOnce} {
		t.Run(delivery.String(), func(t *testing.T) {
			t.Parallel()
			w := newWhole(t, pgtest.Migrated(t))
			w.exec(t, "alter table outbox_events drop constraint outbox_events_event_type_topic, alter column event_type drop not null")
			w.broker.CreateTopic(t, "dead", 3)
			limit := "10000"
			if _, err := kadm.NewClient(w.broker.Client(t)).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &limit}}, "things"); err != nil {
				t.Fatal(err)
			}
			r := w.startBurying(t, delivery)
			r.await(t, relay.StateStreaming)
			const good = "'things'"
			w.exec(t, row(1, good, 1))
			w.exec(t, "begin;"+row(2, "null", 1)+row(3, good, 1)+row(4, "'no topic'", 1)+row(5, good, 1)+"commit")
			w.exec(t, "begin;"+row(6, good, 20_000)+row(7, good, 1)+row(8, "'nowhere'", 1)+"commit")
			w.exec(t, row(9, good, 1))
			end := w.currentLSN(t)
			eventually(t, "everything to be confirmed", func() bool { return w.confirmed(t) >= end })

			w.exec(t, row(10, "'nowhere'", 1)+row(11, good, 1))
			end = w.currentLSN(t)
			eventually(t, "the rest to be confirmed", func() bool { return w.confirmed(t) >= end })
			if err := r.stop(); err != nil {
				t.Errorf("Run = %v, want nil", err)
			}
			living, _ := w.numbers(t, "things", 6)
			dead, codes := w.numbers(t, "dead", 5)
			if delivery == relay.AtLeastOnce { // a failed batch has published what stood before the failure
				living, dead = firsts(living), firsts(dead)
			} else if diff := cmp.Diff([]string{"unpublishable", "unpublishable", "event_too_large", "topic_missing", "topic_missing"}, codes); diff != "" {
				t.Errorf("codes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]int{1, 3, 5, 7, 9, 11}, living); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]int{2, 4, 6, 8, 10}, dead); diff != "" {
				t.Errorf("dead letters (-want +got):\n%s", diff)
			}
		})
	}
}

// firsts are the first appearances.
func firsts(numbers []int) (out []int) {
	for _, n := range numbers {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}
