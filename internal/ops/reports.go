package ops

import "sync"

// reportLoop is a loop of Health that lives from the first report of a consumer to its end. The zero value is ready.
type reportLoop struct {
	mu          sync.Mutex // guards what follows
	tick, ended func()     // nil until the first report
}

// report says that the loop is alive.
func (l *reportLoop) report(health *Health, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tick == nil {
		l.tick, l.ended = health.Loop(name, consumerSilence)
	}
	l.tick()
}

// end says that there is nothing more to come.
func (l *reportLoop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		l.ended()
	}
}
