package ops_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/ops"
)

func TestABusyPortIsNamedWithItsHolderAndTheFlag(t *testing.T) {
	t.Parallel()
	first, err := ops.Listen(t.Context(), "127.0.0.1:0", "addr")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = first.Close() }()

	_, err = ops.Listen(t.Context(), first.Addr().String(), "addr")
	var busy *ops.BusyPortError
	if !errors.As(err, &busy) {
		t.Fatalf("Listen on a busy port = %v, want a BusyPortError", err)
	}
	port := first.Addr().(*net.TCPAddr).Port
	holder := ""
	if runtime.GOOS == "linux" {
		comm, err := os.ReadFile("/proc/self/comm")
		if err != nil {
			t.Fatal(err)
		}
		holder = fmt.Sprintf(" (process %d, %s)", os.Getpid(), strings.TrimSpace(string(comm)))
	}
	want := fmt.Sprintf("port %d is in use%s: choose another with --addr 127.0.0.1:%d", port, holder, port+1)
	if err.Error() != want {
		t.Errorf("Listen = %q, want %q", err, want)
	}
}

func TestAnAddressThatIsNotOursNamesTheFlag(t *testing.T) {
	t.Parallel()
	_, err := ops.Listen(t.Context(), "192.0.2.1:5001", "addr") // a documentation network, RFC 5737
	if err == nil || !strings.Contains(err.Error(), "choose another with --addr") {
		t.Errorf("Listen on a foreign address = %v, want an error that names --addr", err)
	}
}

func TestOpsIsForThisMachineUnlessTheOperatorSaysOtherwise(t *testing.T) {
	t.Parallel()
	log, err := ops.NewLogger(t.Output(), "warn", "text")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0"} {
		var public *ops.PublicAddrError
		if err := ops.New(log).Serve(t.Context(), addr); !errors.As(err, &public) {
			t.Errorf("Serve(%q) = %v, want a PublicAddrError", addr, err)
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "localhost:0", "0.0.0.0:0"} {
		ctx, cancel := context.WithCancel(ctx)
		o := ops.New(log)
		o.Public = addr == "0.0.0.0:0"
		o.OnListen = func(string, net.Addr) { cancel() }
		if err := o.Serve(ctx, addr); err != nil && !strings.Contains(err.Error(), "cannot assign") {
			t.Errorf("Serve(%q) = %v, want nil after the cancellation", addr, err)
		}
		cancel()
	}
}
