package ops

import "sync"

// maxTopics bounds the label topic: a topic can come from a column that anybody fills.
const maxTopics = 200

// bounded lets the first maxTopics values of a label through and calls the rest "other". The zero value is ready and safe for concurrent use.
type bounded struct {
	mu   sync.Mutex // guards seen
	seen map[string]struct{}
}

func (b *bounded) value(v string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.seen[v]; ok {
		return v
	}
	if len(b.seen) >= maxTopics {
		return "other"
	}
	if b.seen == nil {
		b.seen = make(map[string]struct{})
	}
	b.seen[v] = struct{}{}
	return v
}
