package pgwal

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// unpolledConn is a connection that Go's network poller does not know. The poller's thread waits for all descriptors at once and is woken by each packet,
// whether a goroutine wants to read or not; here a packet wakes a reader that waits for it, and nobody while the reader pauses. It costs a thread.
//
// The kernel chooses the receive buffer and the window. A small one would be faster to read through: see docs/adr/0012-read-in-pauses.md for what it costs.
type unpolledConn struct {
	fd            int
	local, remote net.Addr
	sleep         func(time.Duration) // nanosleep: a timer of Go's would be the poller's matter again

	mu              sync.Mutex // guards what follows
	pacer           pacer
	using           int // calls that have the descriptor
	closed          bool
	readBy, writeBy time.Time // deadlines; zero: none
}

// unpolled takes a connection from the poller. One that is not of the system's own kind is returned as it is.
func unpolled(conn net.Conn) (net.Conn, error) {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return conn, nil
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c := &unpolledConn{local: conn.LocalAddr(), remote: conn.RemoteAddr(), sleep: nanosleep, pacer: newPacer(conn.RemoteAddr().Network())}
	var dupErr error
	err = control.Control(func(fd uintptr) {
		c.fd, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(err, dupErr); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := conn.Close(); err != nil { // the copy stays open
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *unpolledConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.do("read", unix.POLLIN, &c.readBy, func() (int, error) {
		n, err := unix.Read(c.fd, p)
		if errors.Is(err, unix.EAGAIN) {
			c.rest()
		}
		return n, err
	})
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pacer.took(n)
	return n, err
}

// rest pauses when there is nothing to read but more is expected.
func (c *unpolledConn) rest() {
	c.mu.Lock()
	pause := c.pacer.drained(time.Now())
	c.mu.Unlock()
	if pause > 0 {
		c.sleep(pause)
	}
}

func nanosleep(d time.Duration) {
	for left := unix.NsecToTimespec(int64(d)); unix.Nanosleep(&left, &left) == unix.EINTR; {
	}
}

func (c *unpolledConn) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		var n int
		n, err = c.do("write", unix.POLLOUT, &c.writeBy, func() (int, error) {
			return unix.SendmsgN(c.fd, p[written:], nil, nil, unix.MSG_NOSIGNAL)
		})
		written += n
	}
	return written, err
}

// do makes a call until it need not wait for the other side.
func (c *unpolledConn) do(op string, event int16, by *time.Time, call func() (int, error)) (n int, err error) {
	wait, err := c.begin(by)
	defer c.end()
	for err == nil {
		n, err = call()
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EAGAIN):
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: event}}, int(wait.Milliseconds())+1)
		}
		if err == nil || errors.Is(err, unix.EINTR) {
			wait, err = c.remaining(by)
		} else {
			err = os.NewSyscallError(op, err)
		}
	}
	return 0, &net.OpError{Op: op, Net: c.remote.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// pollLimit is how long it may take until a call that waits sees a new deadline.
const pollLimit = 100 * time.Millisecond

// begin keeps the descriptor open until end.
func (c *unpolledConn) begin(by *time.Time) (time.Duration, error) {
	c.mu.Lock()
	c.using++
	c.mu.Unlock()
	return c.remaining(by)
}

// remaining is how long a call may wait before it asks again.
func (c *unpolledConn) remaining(by *time.Time) (time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case by.IsZero():
		return pollLimit, nil
	}
	left := time.Until(*by)
	if left <= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	return min(left, pollLimit), nil
}

func (c *unpolledConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.using--; c.using == 0 && c.closed {
		_ = unix.Close(c.fd) // there is nobody left to tell
	}
}

// Close ends what others are waiting for. The last of them closes the descriptor, whose number may then be another's.
func (c *unpolledConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	if c.using == 0 {
		return os.NewSyscallError("close", unix.Close(c.fd))
	}
	_ = unix.Shutdown(c.fd, unix.SHUT_RDWR) // wakes them; fails when the other side was faster
	return nil
}

func (c *unpolledConn) LocalAddr() net.Addr  { return c.local }
func (c *unpolledConn) RemoteAddr() net.Addr { return c.remote }

func (c *unpolledConn) SetDeadline(t time.Time) error {
	return c.setDeadlines(t, &c.readBy, &c.writeBy)
}
func (c *unpolledConn) SetReadDeadline(t time.Time) error  { return c.setDeadlines(t, &c.readBy) }
func (c *unpolledConn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, &c.writeBy) }

func (c *unpolledConn) setDeadlines(t time.Time, which ...*time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	for _, by := range which {
		*by = t
	}
	return nil
}
