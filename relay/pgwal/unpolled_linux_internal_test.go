//go:build linux

package pgwal

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/net/nettest"
)

// pipe is a connection over loopback whose first end is unpolled.
func pipe(t *testing.T, network string) (unpolledEnd, other net.Conn) {
	t.Helper()
	listener, err := nettest.NewLocalListener(network)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), network, listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if unpolledEnd, err = unpolled(conn); err != nil {
		t.Fatal(err)
	}
	if other, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unpolledEnd.Close(), other.Close() }) // most are closed already
	if _, ok := unpolledEnd.(*unpolledConn); !ok {
		t.Fatalf("unpolled(%s) = %T, want a connection of our own", network, unpolledEnd)
	}
	return unpolledEnd, other
}

func TestAnUnpolledConnectionBehavesAsEveryConnection(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				c1, c2 = pipe(t, network)
				return c1, c2, func() { _, _ = c1.Close(), c2.Close() }, nil
			})
		})
	}
}

func TestCloseEndsAReadThatWaits(t *testing.T) {
	t.Parallel()
	conn, _ := pipe(t, "tcp")
	failed := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		failed <- err
	}()
	if err := conn.Close(); err != nil {
		t.Errorf("Close = %v, want no error", err)
	}
	select {
	case err := <-failed:
		if !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
			t.Errorf("Read = %v, want that the connection is closed", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Read still waits 10 s after Close")
	}
	if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Close = %v the second time, want net.ErrClosed", err)
	}
}

func TestADeadlineEndsAReadAlthoughThereAreBytes(t *testing.T) {
	t.Parallel()
	conn, other := pipe(t, "tcp")
	if _, err := other.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Read = %v, want a time-out", err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("Read = %d, %v without the deadline, want the byte", n, err)
	}
}

func TestAConnectionRestsWhileDataKeepsComing(t *testing.T) {
	t.Parallel()
	end, other := pipe(t, "tcp")
	rested := make(chan time.Duration, 1)
	end.(*unpolledConn).sleep = func(d time.Duration) {
		select {
		case rested <- d:
		default:
		}
	}
	read := make(chan error)
	go func() {
		defer close(read)
		for buf := make([]byte, 16); ; {
			_, err := end.Read(buf)
			read <- err
			if err != nil {
				return
			}
		}
	}()
	for deadline := time.Now().Add(30 * time.Second); len(rested) == 0 && time.Now().Before(deadline); {
		if _, err := other.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err != nil {
			t.Fatal(err)
		}
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	for range read { // until it has seen the end
	}
	select {
	case d := <-rested:
		if d != paceShortest {
			t.Errorf("the reader rested for %v first, want %v", d, paceShortest)
		}
	default:
		t.Error("the reader never rested")
	}
}
