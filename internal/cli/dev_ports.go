package cli

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"github.com/walpost/walpost/internal/ops"
)

// reservedPorts are addresses that were all free at the same moment, held until they are taken; the keys are the flags that change them.
type reservedPorts map[string]net.Listener

// reservePorts listens on every address, each given with its flag. When some cannot be had it returns one error that names all of those, and holds none.
func reservePorts(ctx context.Context, addrs [][2]string) (reservedPorts, error) {
	held := make(reservedPorts, len(addrs))
	var errs []error
	for _, a := range addrs {
		listener, err := ops.Listen(ctx, a[1], a[0])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		held[a[0]] = listener
	}
	if len(errs) > 0 {
		return nil, errors.Join(append(errs, held.close())...)
	}
	return held, nil
}

// take hands over the listener held for the flag; the caller closes it.
func (p reservedPorts) take(flag string) net.Listener {
	listener := p[flag]
	delete(p, flag)
	return listener
}

// free gives up the address held for the flag and returns it with its real port, for a part that listens by itself at once.
func (p reservedPorts) free(flag string) (addr string, err error) {
	listener := p.take(flag)
	return listener.Addr().String(), listener.Close()
}

// close gives up every address that is still held.
func (p reservedPorts) close() error {
	var errs []error
	for flag := range p {
		errs = append(errs, p.take(flag).Close())
	}
	return errors.Join(errs...)
}

// onlyHere refuses an address that other machines would reach. Nothing behind it asks who is there: the embedded database trusts everybody, and
// the page shows all mails.
func onlyHere(flag, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return misused("--%s %s: %w", flag, addr, err)
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return nil
	}
	return misused("--%s %s would be reachable from other machines, and dev asks nobody for a password: use %s", flag, addr, net.JoinHostPort("127.0.0.1", port))
}

// reachable is an address to connect to for one to listen on: no host, or an unspecified one, is this machine too.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
