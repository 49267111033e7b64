package chaos

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy stands between the relays and a server, on loopback, and does to their connections what networks do.
type proxy struct {
	listener net.Listener
	server   string
	up, down valve // towards the server, and back
	refusing atomic.Bool
	owned    sync.WaitGroup // accept and the two directions of every link

	mu    sync.Mutex // guards links
	links map[*link]bool
}

// newProxy listens at the address and connects to the server for each connection.
func newProxy(ctx context.Context, addr, server string) (*proxy, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, server: server, links: make(map[*link]bool)}
	p.up.opened, p.down.opened = make(chan struct{}), make(chan struct{})
	p.owned.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// close ends all connections.
func (p *proxy) close() {
	_ = p.listener.Close() // nothing of it is needed any more
	p.refusing.Store(true)
	p.cut(nil)
	p.owned.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.owned.Go(func() { p.serve(client) })
	}
}

func (p *proxy) serve(client net.Conn) {
	l := &link{client: client, done: make(chan struct{})}
	defer l.cut()
	if p.refusing.Load() {
		return
	}
	var err error
	if l.server, err = net.DialTimeout("tcp", p.server, 5*time.Second); err != nil {
		return
	}
	p.mu.Lock()
	p.links[l] = true
	p.mu.Unlock()
	if p.refusing.Load() { // between the two, whoever began to refuse has not seen this link
		l.cut()
	}
	var both sync.WaitGroup
	both.Go(func() { l.copy(l.server, l.client, &p.up) })
	both.Go(func() { l.copy(l.client, l.server, &p.down) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// refuse ends all connections and takes no new ones until p.admit.
func (p *proxy) refuse() {
	p.refusing.Store(true)
	p.cut(nil)
}

func (p *proxy) admit() { p.refusing.Store(false) }

// cut ends connections with a reset: those that are chosen, nil for all.
func (p *proxy) cut(chosen func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if chosen == nil || chosen() {
			l.cut()
		}
	}
}

// link is one connection through a proxy.
type link struct {
	client, server net.Conn
	once           sync.Once
	done           chan struct{} // closed by cut
}

// cut ends both sides. What was on its way is lost.
func (l *link) cut() {
	l.once.Do(func() {
		close(l.done)
		for _, conn := range []net.Conn{l.client, l.server} {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // makes a reset of the end; without it the end is an orderly one, which is a fault too
				_ = tcp.Close()
			}
		}
	})
}

func (l *link) copy(dst, src net.Conn, v *valve) {
	defer l.cut()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && v.pass(l.done) {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// valve lets bytes through, holds them, or loses them.
type valve struct {
	mu     sync.Mutex // guards what follows
	state  flow
	opened chan struct{} // closed when what is held may go on
}

type flow int

const (
	open flow = iota
	hold
	lose
)

func (v *valve) set(f flow) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state == hold && f != hold {
		close(v.opened)
		v.opened = make(chan struct{})
	}
	v.state = f
}

// pass waits while bytes are held. It returns false when they are to be lost.
func (v *valve) pass(done <-chan struct{}) bool {
	for {
		v.mu.Lock()
		state, opened := v.state, v.opened
		v.mu.Unlock()
		if state != hold {
			return state == open
		}
		select {
		case <-opened:
		case <-done:
			return false
		}
	}
}
