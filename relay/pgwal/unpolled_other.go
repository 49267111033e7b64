//go:build !linux

package pgwal

import (
	"context"
	"net"
	"time"
)

// dialReplication connects for a stream. On Linux its reads are paced; elsewhere the connection is an ordinary one.
func dialReplication(ctx context.Context, network, addr string, timeout time.Duration) (net.Conn, error) {
	return (&net.Dialer{Timeout: timeout}).DialContext(ctx, network, addr)
}
