// Package freeport finds ports on loopback for servers that tests, measurements and the fault campaign start in other processes.
//
// It looks below the range from which systems take the ports of outgoing connections: a port that was free a moment ago is lost there to any client.
// The invariant: no two processes of this machine and user are given the same port while both live. Programs that do not ask here may still take one;
// what is started there has to say so.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

const (
	first = 10_000 // below are the ports of well-known servers
	last  = 32_000 // Linux takes outgoing ports from 32768 on, others from 49152
	tries = 200
)

// Addr is an address on 127.0.0.1 whose port is free at this moment, and this process's until its end.
func Addr() (string, error) { return Row(1) }

// Port is the port of an address as those of Addr.
func Port() (int, error) { return row(1) }

// Row is the first of n addresses with successive ports, all as those of Addr.
func Row(n int) (string, error) {
	port, err := row(n)
	if err != nil {
		return "", err
	}
	return addr(port), nil
}

func row(n int) (port int, err error) {
	for range tries {
		port = first + rand.IntN(last-first-n)
		if err = take(port, n); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no %d free ports side by side found on 127.0.0.1: %w", n, err)
}

func addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// taken are the claims of this process by port. They are never given back: a port that is used again at once may still be held by the server before.
var taken struct {
	sync.Mutex
	files map[int]*os.File
}

func take(port, n int) error {
	taken.Lock()
	defer taken.Unlock()
	var claims []*os.File
	for i := range n {
		claim, err := claim(port + i)
		if err != nil {
			for _, c := range claims {
				err = errors.Join(err, c.Close())
			}
			return err
		}
		claims = append(claims, claim)
	}
	if taken.files == nil {
		taken.files = make(map[int]*os.File)
	}
	for i, c := range claims {
		taken.files[port+i] = c
	}
	return nil
}

// claim locks the port's file, for the life of the process unless it is closed, and looks whether the port is free.
func claim(port int) (*os.File, error) {
	if taken.files[port] != nil {
		return nil, fmt.Errorf("port %d is taken", port)
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("walpost-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("port %d is another process's: %w", port, err), file.Close())
	}
	listener, err := net.Listen("tcp", addr(port))
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := listener.Close(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
