package cli_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/relay/pgwal"
)

// takeSlot makes another relay take dev's slot as soon as the server answers, long before dev's own does. It reads until it is told to leave, or the server stops.
func takeSlot(t *testing.T, postgres string) (leave func()) {
	t.Helper()
	source, err := pgwal.New(pgwal.Config{URL: "postgres://walpost@" + postgres + "/walpost?sslmode=disable"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		stream, err := source.Open(ctx)
		for ticker := time.NewTicker(time.Millisecond); err != nil; stream, err = source.Open(ctx) {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
		defer func() { _ = stream.Close() }() // the server may have stopped
		for {
			batch, err := stream.Next(ctx)
			if err != nil {
				return
			}
			if batch.End != 0 {
				stream.Confirm(batch.End) // a server that stops waits for it
			}
		}
	}()
	leave = func() {
		cancel()
		<-left
	}
	t.Cleanup(leave)
	return leave
}

func TestDevIsNotReadyWhileAnotherReadsItsSlot(t *testing.T) {
	dir, postgres := devDir(t), closedPort(t)
	dev := func() *devProcess {
		return startDev(t, dir, "--postgres-addr", postgres, "--json", "--log-level", "info")
	}
	p := dev()
	p.banner(t)
	stopsCleanly(t, p, 0)

	takeSlot(t, postgres)
	p = dev()
	if code := p.exit(t); code != 5 {
		t.Errorf("dev while another relay reads: exit code %d, want 5", code)
	}
	for _, want := range []string{"slot walpost is read by a walpost relay that is not this dev's, server process ", "stop that `walpost relay`"} {
		if got := p.stderr.String(); !strings.Contains(got, want) {
			t.Errorf("dev while another relay reads says %q, want %q in it", got, want)
		}
	}
	if got := p.stdout.String(); got != "" {
		t.Errorf("dev while another relay reads says %q, want no banner", got)
	}

	leave := takeSlot(t, postgres)
	p = dev()
	p.until(t, "word that the relay stands by", func() bool { return strings.Contains(p.stderr.String(), "relay is standing by") })
	leave()
	p.banner(t)
	register(t, p.banner(t), "grace@example.com")
}
