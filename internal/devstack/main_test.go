package devstack_test

import (
	"net"
	"testing"

	"github.com/walpost/walpost/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
