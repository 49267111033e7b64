package pgwal_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

func TestARowThatCannotBePublishedIsHandedOnWhereAsked(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.exec(t, "alter table outbox_events drop constraint outbox_events_event_type_topic, alter column event_type drop not null")
	s := open(t, d.source(t, func(c *pgwal.Config) { c.DeadLetters = true }))
	d.exec(t, "begin;"+insert("before")+strings.ReplaceAll(insert("bad name"), "'things'", "'no topic'")+strings.ReplaceAll(insert("no name"), "'things'", "null")+insert("behind")+"commit")
	events := read(t, s, 4)
	if diff := cmp.Diff([]string{"before", "bad name", "no name", "behind"}, keys(events)); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	for i, says := range []string{"", "no topic", "a column of its topic is NULL", ""} {
		ev := &events[i]
		if ev.Position != (relay.Position{Commit: events[0].Position.Commit, Index: uint32(i)}) {
			t.Errorf("event %d is at position %s, want its place in the transaction", i, ev.Position)
		}
		if says == "" {
			if why := ev.Dead(); why != nil || ev.Record.Topic != "things" {
				t.Errorf("event %d to topic %q is dead for %v, want it alive", i, ev.Record.Topic, why)
			}
			continue
		}
		wantHalt(t, "Dead", ev.Dead(), relay.Unpublishable, says)
		if ev.Record.Topic != "" || string(ev.Record.Value) != "{}" || len(ev.ID()) != 36 {
			t.Errorf("record of dead event %d = %+v, want payload and id and no topic", i, ev.Record)
		}
	}
}
