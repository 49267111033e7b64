package inbox

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// reasons is the set of reasons for which a partition is not read. It is read only while the set is empty, so that one reason that ends
// does not undo another.
type reasons uint8

const (
	windowFull reasons = 1 << iota
	databaseOut
)

func (r reasons) names() []string {
	var names []string
	if r&windowFull != 0 {
		names = append(names, "window")
	}
	if r&databaseOut != 0 {
		names = append(names, "outage")
	}
	return names
}

// pauser stops and resumes the reading of partitions. It is never told to: it is told to look, and works out the reasons from the state of
// the window and the gate. So it does not matter in which order two changes reach it.
type pauser struct {
	mu      sync.Mutex // protects partition.paused; also held while the client is told, which does not block, so that the last word is right
	client  *kgo.Client
	shut    func() bool
	observe PauseObserver
}

func (u *pauser) isPaused(p *partition) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return p.paused != 0
}

// sync brings the client in step with the state of some partitions. A stopped one has no reasons: the client would remember its pause and
// apply it to the next assignment of the same partition.
func (u *pauser) sync(parts ...*partition) {
	u.mu.Lock()
	defer u.mu.Unlock()
	shut := u.shut()
	for _, p := range parts {
		want := p.reasons(shut)
		if want == p.paused {
			continue
		}
		was := p.paused
		p.paused = want
		set := map[string][]int32{p.topic: {p.number}}
		switch {
		case was == 0:
			u.client.PauseFetchPartitions(set)
		case want == 0:
			u.client.ResumeFetchPartitions(set)
		}
		if u.observe != nil {
			u.observe.Paused(p.topic, p.number, want.names())
		}
	}
}
