package ops

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is a running process; the zero value is an unknown one.
type Process struct {
	PID  int
	Name string
}

// holderOf finds the process that listens on the address' port. It reads Linux's /proc and returns the zero Process where that cannot tell: on
// other systems, or for a process of another user.
func holderOf(addr string) Process {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Process{}
	}
	sockets := listeningSockets(port)
	if len(sockets) == 0 {
		return Process{}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is constant and well formed
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !sockets[target] {
			continue // gone, or not ours to read
		}
		pid := strings.Split(link, "/")[2]
		name, _ := os.ReadFile("/proc/" + pid + "/comm") // gone again: no name
		n, _ := strconv.Atoi(pid)                        // the pattern admits digits only
		return Process{PID: n, Name: Printable(strings.TrimSpace(string(name)))}
	}
	return Process{}
}

// listeningSockets returns the sockets that listen on the port, as the links in /proc/PID/fd name them.
// https://docs.kernel.org/networking/proc_net_tcp.html
func listeningSockets(port string) map[string]bool {
	const (
		localAddress = 1
		state        = 3
		inode        = 9
		listening    = "0A"
	)
	sockets := make(map[string]bool)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		file, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) <= inode || fields[state] != listening {
				continue
			}
			_, hex, _ := strings.Cut(fields[localAddress], ":")
			if n, err := strconv.ParseUint(hex, 16, 16); err == nil && strconv.FormatUint(n, 10) == port {
				sockets["socket:["+fields[inode]+"]"] = true
			}
		}
		_ = file.Close() // opened for reading
	}
	return sockets
}
