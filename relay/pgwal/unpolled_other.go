//go:build !linux

package pgwal

import "net"

// unpolled is for Linux: elsewhere the connection stays as it is, and reads without pauses.
func unpolled(conn net.Conn) (net.Conn, error) { return conn, nil }
