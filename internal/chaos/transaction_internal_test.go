package chaos

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/outbox"
)

func plans(seed uint64, n int) []transaction {
	random := rand.New(rand.NewPCG(seed, 0))
	var list []transaction
	for range n {
		list = append(list, plan(random, []string{"a", "b"}))
	}
	return list
}

func TestASeedIsAWorkload(t *testing.T) {
	t.Parallel()
	whole := cmp.Comparer(func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) // byte by byte takes minutes
	if diff := cmp.Diff(plans(1, 300), plans(1, 300), cmp.AllowUnexported(transaction{}), whole); diff != "" {
		t.Errorf("the same seed gave another workload (-once +again):\n%s", diff)
	}
}

func TestTheWorkloadHasSomeOfEverythingAndNothingThatIsRefused(t *testing.T) {
	t.Parallel()
	found := make(map[string]int)
	topics := make(map[string]string)
	for _, p := range plans(2, 2000) {
		if was, ok := topics[p.aggregate]; ok && was != p.topic {
			t.Fatalf("events of %s go to %s and to %s, want one topic", p.aggregate, was, p.topic)
		}
		topics[p.aggregate] = p.topic
		for what, has := range map[string]bool{
			"rollback": p.rollback, "savepoint": p.discarded != nil, "delete": p.deleted, "two-phase": p.twoPhase, "several": len(p.payloads) > 1,
		} {
			if has {
				found[what]++
			}
		}
		for _, payload := range p.payloads {
			switch {
			case payload == nil:
				found["tombstone"]++
			case len(payload) > outbox.MaxPayloadBytes:
				t.Errorf("payload of %d bytes, want at most %d", len(payload), outbox.MaxPayloadBytes)
			case len(payload) > 300_000:
				found["huge"]++
			case len(payload) > smallBatch:
				found["above the limit of a topic that is limited"]++
			}
			if _, err := (outbox.Appender{}).Statement(t.Context(), p.event(1, payload)); err != nil {
				t.Errorf("event is refused: %v", err)
			}
		}
	}
	for _, what := range []string{"rollback", "savepoint", "delete", "two-phase", "several", "tombstone", "huge", "above the limit of a topic that is limited"} {
		if found[what] == 0 {
			t.Errorf("2000 transactions have no %s: %v", what, found)
		}
	}
}
