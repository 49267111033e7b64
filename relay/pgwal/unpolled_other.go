//go:build !linux

package pgwal

import (
	"context"
	"net"
)

// dialReplication connects for a stream. On Linux its reads are paced; elsewhere the connection is an ordinary one.
func dialReplication(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}
