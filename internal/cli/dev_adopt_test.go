package cli_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const adopts = `: exactly once begins anew at [0-9A-F]+/[0-9A-F]+, (no event comes|up to \d+ events? may come) twice\n`

var (
	used    = regexp.MustCompile(`slot walpost: Debezium or at least once has published through it` + adopts)
	shorter = regexp.MustCompile(`slot walpost: events that Kafka had acknowledged are gone: .* ends at offset 0, and offset \d+ was written` + adopts)
)

// Whoever has used dev before exactly once was the default, or turns it off and on again, starts dev and that is all.
func TestDevGoesOnExactlyOnceWhereAtLeastOnceHasStopped(t *testing.T) {
	dir := devDir(t)
	loosely := []string{"WALPOST_DELIVERY=at-least-once"}
	for i, step := range []struct {
		name string
		env  []string
		mode string
		says string // yes, no, or either
	}{
		{"an earlier version", loosely, "at-least-once", "no"},
		{"this one", nil, "exactly-once", "yes"}, // there is no watermark
		{"again", nil, "exactly-once", "no"},
		{"back", loosely, "at-least-once", "no"},
		{"and forth", nil, "exactly-once", "either"}, // the slot has passed the watermark, unless it went back with the server's stop: before PostgreSQL 17
	} {
		t.Run(step.name, func(t *testing.T) {
			p := startDevWith(t, step.env, dir, "--json")
			b := p.banner(t)
			said := p.stderr.String()
			if adopted := used.MatchString(said); step.says == "yes" && !adopted || step.says == "no" && strings.Contains(said, "begins anew") {
				t.Errorf("dev says %q, want it to say that it adopts the slot: %s", said, step.says)
			}
			if want := fmt.Sprintf("walpost_relay_delivery{mode=%q} 1", step.mode); !strings.Contains(fetch(t, b.Metrics), want) {
				t.Errorf("metrics have no %s", want)
			}
			if e := register(t, b, string(rune('a'+i))+"@example.com"); e.Copies != 1 {
				t.Errorf("event = %+v, want it published once", e)
			}
			if code, _ := p.interrupt(t); code != 0 {
				t.Errorf("exit code = %d, want 0", code)
			}
		})
	}
}

func TestDevGoesOnWhereATopicWasDeleted(t *testing.T) {
	dir := devDir(t)
	p := startDev(t, dir, "--json")
	b := p.banner(t)
	register(t, b, "grace@example.com")
	register(t, b, "ada@example.com") // a watermark knows how far the topics went with the transaction before its own
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Kafka))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := kadm.NewClient(client).DeleteTopic(t.Context(), registrations); err != nil {
		t.Fatal(err)
	}
	p.interrupt(t) // the consumer cannot write down its offsets, and complains

	p = startDev(t, dir, "--json") // which makes the topic again
	b = p.banner(t)
	if said := p.stderr.String(); !shorter.MatchString(said) {
		t.Errorf("dev says %q, want %s", said, shorter)
	}
	if e := register(t, b, "alan@example.com"); e.Copies != 1 {
		t.Errorf("event = %+v, want it published once", e)
	}
}
