package cli_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/walpost/walpost/internal/cli"
	"github.com/walpost/walpost/internal/ops"
)

func TestHealthIsShownUntilAPartHasDrained(t *testing.T) {
	t.Parallel()
	log := newLines()
	logger, err := ops.NewLogger(log, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	draining, drained := make(chan struct{}), make(chan struct{})
	s := &server{stop: stop, ended: make(chan struct{}), stderr: log}
	go func() {
		defer close(s.ended)
		err = cli.Serve(ctx, logger, func(ctx context.Context, o *ops.Ops) error {
			o.Health.Started()
			<-ctx.Done()
			close(draining)
			<-drained
			return nil
		})
	}()
	addr := s.addr(t, "ops")
	until(t, addr, "/readyz", http.StatusOK)
	stop()
	<-draining
	until(t, addr, "/readyz", http.StatusServiceUnavailable, `"error":"stopping"`)
	until(t, addr, "/livez", http.StatusOK)
	close(drained)
	<-s.ended
	if err != nil {
		t.Errorf("serve = %v, want nil", err)
	}
}

func TestAPartThatFailsEndsItsServer(t *testing.T) {
	t.Parallel()
	logger, err := ops.NewLogger(newLines(), "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("broken")
	if err := cli.Serve(t.Context(), logger, func(context.Context, *ops.Ops) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("serve = %v, want the part's error", err)
	}
}
