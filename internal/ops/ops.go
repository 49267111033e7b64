// Package ops is what every server of walpost needs to be operated: logs, health, metrics, traces, and one HTTP listener that shows them.
//
// It is not the application: it knows the relay and the consumer only through their observer interfaces and decides nothing for them.
// The invariant: the listener is reachable from this machine alone unless the operator said otherwise, and nothing it shows is a payload, a
// secret or a label without bound.
package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Ops is what the parts of one process share. Its fields are not changed after the parts have started; its methods are safe for concurrent use.
type Ops struct {
	Log      *slog.Logger
	Registry *prometheus.Registry // the metrics of this process
	Health   *Health
	Traces   trace.TracerProvider // records nothing unless StartTracing was called

	// Public lets Serve listen on addresses that other machines reach. Default false.
	Public bool
	// OnListen is told each address that a part listens on, with the real port where 0 was asked for. Default nil: nobody is told.
	OnListen func(part string, addr net.Addr)
}

// New returns an Ops with the metrics of the process itself and of its health.
func New(log *slog.Logger) *Ops {
	o := &Ops{Log: log, Registry: prometheus.NewRegistry(), Health: NewHealth(), Traces: noop.NewTracerProvider()}
	o.Registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		newBuildInfo(),
		healthMetrics{o.Health},
	)
	return o
}

// Listening tells the log and OnListen where a part listens.
func (o *Ops) Listening(part string, addr net.Addr) {
	o.Log.Info("listening", "part", part, "addr", addr.String())
	if o.OnListen != nil {
		o.OnListen(part, addr)
	}
}

// Serve listens on addr and shows health, metrics and profiles until ctx is cancelled; then it returns nil. An address that other machines reach
// is refused unless o.Public.
func (o *Ops) Serve(ctx context.Context, addr string) error {
	listener, err := o.Listen(ctx, addr)
	if err != nil {
		return err
	}
	return o.ServeOn(ctx, listener)
}

// Listen is the first half of Serve.
func (o *Ops) Listen(ctx context.Context, addr string) (net.Listener, error) {
	if !o.Public && !loopback(addr) {
		return nil, &PublicAddrError{Addr: addr}
	}
	return Listen(ctx, addr, "ops-addr")
}

// ServeOn is the second half of Serve. It closes the listener.
func (o *Ops) ServeOn(ctx context.Context, listener net.Listener) error {
	o.Listening("ops", listener.Addr())
	server := &http.Server{
		Handler:           o.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes 30 s unless asked for longer
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelWarn),
	}
	return ServeHTTP(ctx, server, listener, time.Second)
}

// ServeHTTP runs the server on the listener until ctx is cancelled. Then it takes no further connection, lets the requests in flight finish for at
// most drain, cuts the rest and returns nil.
func ServeHTTP(ctx context.Context, server *http.Server, listener net.Listener, drain time.Duration) error {
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	if err != nil {
		return fmt.Errorf("stop serving on %s: %w", listener.Addr(), err)
	}
	return nil
}
