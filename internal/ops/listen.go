package ops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// BusyPortError says that a port is taken, by whom where that can be read, and which flag changes it.
type BusyPortError struct {
	Addr   string // host:port that was wanted
	Flag   string // without dashes
	Holder Process
}

// Error reads "port 5001 is in use (process 4711, java): choose another with --addr 127.0.0.1:5002".
func (e *BusyPortError) Error() string {
	host, port, _ := net.SplitHostPort(e.Addr) // the system read it as two parts
	holder := ""
	if e.Holder.PID != 0 {
		holder = fmt.Sprintf(" (process %d, %s)", e.Holder.PID, e.Holder.Name)
	}
	return fmt.Sprintf("port %s is in use%s: choose another with --%s %s", port, holder, e.Flag, net.JoinHostPort(host, nextPort(port)))
}

func nextPort(port string) string {
	n, err := strconv.Atoi(port)
	if err != nil || n >= 65535 {
		return "0" // any free one
	}
	return strconv.Itoa(n + 1)
}

// PublicAddrError says that an address without authentication would be reachable from other machines.
type PublicAddrError struct{ Addr string }

// Error names the flag that allows it.
func (e *PublicAddrError) Error() string {
	return fmt.Sprintf("ops address %s is reachable from other machines, and it has no authentication: use 127.0.0.1, or allow it with --ops-public", e.Addr)
}

// Listen listens on a TCP address. Its error names the flag that changes the address; it is a *BusyPortError when the port is taken.
func Listen(ctx context.Context, addr, flag string) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &BusyPortError{Addr: addr, Flag: flag, Holder: holderOf(addr)}
	case err != nil:
		return nil, fmt.Errorf("address %s cannot be listened on: %w: choose another with --%s", addr, err, flag)
	}
	return listener, nil
}

// loopback reports whether only this machine can reach the address. An empty host is every address; a name counts only as "localhost".
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
