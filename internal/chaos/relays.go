package chaos

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/walpost/walpost/internal/devstack/child"
)

// relays are the relay processes of a run. Its methods but start are called from one goroutine.
type relays struct {
	program string
	args    []string
	dir     string // for their logs

	list    []*process // that run, oldest first
	started int

	mu     sync.Mutex // guards exits
	exits  []Exit
	fenced atomic.Int64 // times that a relay was told that it is shut out
	owned  sync.WaitGroup
	excuse func(begun, ended time.Time, cause string) string
	exited chan struct{} // capacity 1: one has ended by itself
}

// process is one relay.
type process struct {
	*child.Process
	number int
	begun  time.Time
	log    *os.File
	wanted atomic.Bool // to end, by us
}

// start starts another relay.
func (r *relays) start(ctx context.Context) error {
	r.started++
	name := filepath.Join(r.dir, fmt.Sprintf("relay-%d", r.started))
	log, err := os.Create(name + ".log")
	if err != nil {
		return err
	}
	p := &process{number: r.started, begun: time.Now(), log: log}
	p.Process, err = child.Start(ctx, child.Command{
		Name: fmt.Sprintf("relay %d", r.started), Path: r.program, Args: r.args, Record: name + ".process", Log: &relayLog{to: log, fenced: &r.fenced},
		Stop: []child.Step{{Signal: syscall.SIGTERM, Patience: 30 * time.Second}},
	})
	if err != nil {
		_ = log.Close() // nothing is in it
		return err
	}
	r.list = append(r.list, p)
	r.owned.Go(func() { r.watch(p) })
	return nil
}

// watch notes a relay that ends and was not told to.
func (r *relays) watch(p *process) {
	<-p.Exited()
	_ = p.log.Close() // it was written to without buffers
	if p.wanted.Load() {
		return
	}
	e := exitOf(p.number, p.Log())
	if r.excuse != nil {
		e.Excuse = r.excuse(p.begun, time.Now(), e.Cause)
	}
	r.mu.Lock()
	r.exits = append(r.exits, e)
	r.mu.Unlock()
	signal(r.exited)
}

var halted = regexp.MustCompile(`relay halted \((\w+)\)`)

// exitOf reads the end of a relay's log.
func exitOf(number int, log string) Exit {
	e := Exit{Relay: number}
	lines := bytes.Split(bytes.TrimSpace([]byte(log)), []byte("\n"))
	e.Last = string(lines[len(lines)-1])
	if m := halted.FindStringSubmatch(log); m != nil {
		e.Cause = m[1]
	}
	return e
}

// ended are the relays that have ended by themselves.
func (r *relays) ended() []Exit {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.exits)
}

// flawed reports whether one has, and nothing justifies it.
func (r *relays) flawed() bool {
	return slices.ContainsFunc(r.ended(), func(e Exit) bool { return e.Excuse == "" })
}

// alive forgets those that have ended, and returns the others.
func (r *relays) alive() []*process {
	r.list = slices.DeleteFunc(r.list, func(p *process) bool {
		select {
		case <-p.Exited():
			return true
		default:
			return false
		}
	})
	return r.list
}

// kill ends processes with SIGKILL, stopped ones too.
func (r *relays) kill(list ...*process) {
	for _, p := range list {
		p.wanted.Store(true)
	}
	for _, p := range list {
		p.Kill()
	}
}

// stop ends processes with SIGTERM.
func (r *relays) stop(ctx context.Context, list ...*process) error {
	var err error
	for _, p := range list {
		p.wanted.Store(true)
		if e := p.Stop(ctx); e != nil && err == nil {
			err = e
		}
	}
	return err
}

// close ends all that are left.
func (r *relays) close() {
	r.kill(slices.Clone(r.list)...)
	r.owned.Wait()
}

// relayLog writes a relay's log to its file and counts what matters in it.
type relayLog struct {
	to     *os.File
	fenced *atomic.Int64
}

func (l *relayLog) Write(text []byte) (int, error) {
	l.fenced.Add(int64(bytes.Count(text, []byte("is shut out"))))
	return l.to.Write(text)
}

// signal wakes whoever waits on c, now or later.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
