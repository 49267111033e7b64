package pgtest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// shared is the server that all tests of this process use; started by the first of them, stopped by Main.
var shared struct {
	once   sync.Once
	server *Server
	err    error
}

func sharedServer(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(func() { shared.server, shared.err = newServer(context.Background()) })
	if shared.err != nil {
		skip(t, shared.err)
	}
	return shared.server
}

// Main runs the tests of a package that uses this one: call it in TestMain. Afterwards it stops the shared server and fails the package when a
// goroutine was left behind. The functions in after run last.
func Main(m *testing.M, after ...func()) {
	code := m.Run()
	if shared.server != nil {
		shared.server.close()
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	for _, f := range after {
		f()
	}
	os.Exit(code)
}
