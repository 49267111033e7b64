package pgwal_test

import (
	"bytes"
	"net"
	"sync"
	"testing"
)

// wire is a TCP connection that can be made to swallow everything, as a router would that was switched off.
type wire struct {
	net.Listener
	server string
	until  int // the connection on which the server's first ReadyForQuery is the last message to pass; 0: none
	dead   chan struct{}
	once   sync.Once
	owned  sync.WaitGroup
}

func newWire(t *testing.T, server string) *wire { return newWireUntil(t, server, 0) }

func newWireUntil(t *testing.T, server string, until int) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, server: server, until: until, dead: make(chan struct{})}
	w.owned.Go(func() {
		for n := 1; ; n++ {
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
			w.owned.Go(func() { w.carry(near, far, n == until) })
			w.owned.Go(func() { w.carry(far, near, false) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return w
}

func (w *wire) goSilent() { w.once.Do(func() { close(w.dead) }) }

func (w *wire) carry(to, from net.Conn, last bool) {
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
			if last && bytes.Contains(buf[:n], []byte("Z\x00\x00\x00\x05I")) {
				w.goSilent()
			}
		}
		if err != nil {
			_ = to.Close() // the other direction ends too
			return
		}
	}
}
