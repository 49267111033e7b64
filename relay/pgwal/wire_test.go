package pgwal_test

import (
	"net"
	"sync"
	"testing"
)

// wire is a TCP connection that can be made to swallow everything, as a router would that was switched off.
type wire struct {
	net.Listener
	server string
	dead   chan struct{}
	once   sync.Once
	owned  sync.WaitGroup
}

func newWire(t *testing.T, server string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, server: server, dead: make(chan struct{})}
	w.owned.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				_ = near.Close() // which tells the client
				continue
			}
			t.Cleanup(func() { _, _ = near.Close(), far.Close() })
			w.owned.Go(func() { w.carry(near, far) })
			w.owned.Go(func() { w.carry(far, near) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return w
}

func (w *wire) goSilent() { w.once.Do(func() { close(w.dead) }) }

func (w *wire) carry(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-w.dead:
			if err == nil {
				continue
			}
			return // and the other end does not hear of it
		default:
			if err == nil {
				_, err = to.Write(buf[:n])
			}
		}
		if err != nil {
			_ = to.Close() // the other direction ends too
			return
		}
	}
}
