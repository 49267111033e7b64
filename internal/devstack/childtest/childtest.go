// Package childtest holds what the tests of all child servers have in common.
//
// Only _test.go files import it.
package childtest

import (
	"bufio"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

// Server is a server that runs as a child of a process.
type Server interface {
	Exited() <-chan struct{}
	Kill()
}

// DiesWithItsParent runs this test binary with the arguments, which make it start a server, print "up" and wait. It attaches to the server,
// kills the parent, and fails the test when the server has not ended within the limit.
func DiesWithItsParent(t testing.TB, limit time.Duration, attach func() (Server, error), args ...string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child of its parent's death; elsewhere the next Start stops it")
	}
	parent := exec.Command(os.Args[0], args...)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if said, err := bufio.NewReader(out).ReadString('\n'); said != "up\n" {
		t.Fatalf("the parent said %q, %v, want up", said, err)
	}
	server, err := attach()
	if err != nil {
		t.Fatalf("Attach() = %v", err)
	}
	t.Cleanup(server.Kill)
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait() // it was killed
	select {
	case <-server.Exited():
	case <-time.After(limit):
		t.Errorf("the server still runs %v after its parent was killed", limit)
	}
}
