package kafkasink_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/relay"
)

func TestAPublisherReportsHowItsTransactionsEnd(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	var got []relay.Outcome
	report := func(p *opened) *opened {
		p.Publisher.(relay.Reporter).Report(func(o relay.Outcome) { got = append(got, o) })
		return p
	}
	w := &wire{key: kmsg.EndTxn}
	p := report(mustOpen(t, exactlyOnce(t, c.Brokers, w.options()...), fresh))
	p.mustPut(t, one(1))
	if err := p.Publish(t.Context(), nil, markAt(1)); err != nil {
		t.Fatal(err)
	}
	w.deaf.Store(true)
	if err := p.put(t, one(2)); err == nil {
		t.Error("Publish whose commit was not acknowledged = nil, want an error")
	}

	p = report(mustOpen(t, exactlyOnce(t, c.Brokers), used))
	c.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "things", Err: kerr.TopicAuthorizationFailed})
	if err := p.put(t, one(3)); err == nil {
		t.Error("Publish to a topic that may not be written to = nil, want an error")
	}
	if err := p.put(t, one(4)); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("Publish after that = %v, want that the publisher has ended", err)
	}
	want := []relay.Outcome{relay.Committed, relay.Committed, relay.UnknownOutcome, relay.Aborted}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}
