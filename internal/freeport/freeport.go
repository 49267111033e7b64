// Package freeport finds ports on loopback for servers that tests start in other processes.
//
// It looks below the range from which systems take the ports of outgoing connections: a port that was free a moment ago is lost there to any client.
// Another test may still take it first; what is started there has to say so.
package freeport

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
)

const (
	first = 10_000 // below are the ports of well-known servers
	last  = 32_000 // Linux takes outgoing ports from 32768 on, others from 49152
)

// Addr is an address on 127.0.0.1 whose port is free at this moment.
func Addr() (string, error) {
	var err error
	for range 50 {
		var l net.Listener
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(first+rand.IntN(last-first)))
		if l, err = net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", errors.Join(errors.New("no free port found on 127.0.0.1"), err)
}
