package cli

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/httpapi"
	"github.com/walpost/walpost/app/postgres"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
	"github.com/walpost/walpost/migrations"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

const (
	apiConns = 16               // a registration holds one for a few milliseconds
	apiDrain = 10 * time.Second // longer than a request may take
)

func newAPIServerCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "api-server",
		Short: "Serve the reference application's HTTP API",
		Long: `Serve the reference application's HTTP API: a registration writes the user, the notification and the event in one transaction. The
description is at /openapi.yaml, a page to try it at /docs. It needs the tables: walpost migrate up.`,
		Example: "  walpost api-server --addr 127.0.0.1:5001 --database-url postgres://app@db/orders",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.serve(cmd.Context(), "walpost-api", serveAPI) },
	}
	config.Flags(cmd.Flags(), "addr", "database-url", "rate-limit", "rate-burst", "trusted-proxies", "ops-addr", "ops-public")
	return cmd
}

// serveAPI serves the API until ctx ends, then lets the requests in flight finish. A database that does not answer at the start is an error: nobody
// would be served.
func serveAPI(ctx context.Context, cfg config.Config, o *ops.Ops) error {
	listener, err := ops.Listen(ctx, cfg.Addr, "addr")
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // closed before when it was served
	pool, err := openPool(ctx, cfg, o, apiConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := pool.Ping(ctx); err != nil {
		return databaseError(cfg, err)
	}
	if err := migrated(ctx, cfg, pool); err != nil {
		return err
	}
	handler, err := apiHandler(cfg, o, pool)
	if err != nil {
		return err
	}
	server := httpapi.NewServer(handler)
	server.ErrorLog = slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug) // what clients do wrong
	o.Health.Started()
	o.Listening("api", listener.Addr())
	return ops.ServeHTTP(ctx, server, listener, apiDrain)
}

func apiHandler(cfg config.Config, o *ops.Ops, pool *pgxpool.Pool) (http.Handler, error) {
	service, err := app.New(postgres.New(pool, outboxpgx.Appender{TraceParent: ops.TraceParent}), app.Config{})
	if err != nil {
		return nil, err
	}
	handler := httpapi.New(service, httpapi.Config{
		Logger:         o.Log,
		ClientLimit:    httpapi.Limit{PerSecond: cfg.RateLimit, Burst: cfg.RateBurst},
		RecipientLimit: httpapi.DefaultRecipientLimit(),
		TrustedProxies: networks(cfg.TrustedProxies),
	})
	if !cfg.Tracing {
		return handler, nil
	}
	return otelhttp.NewHandler(handler, "api", otelhttp.WithTracerProvider(o.Traces), otelhttp.WithPropagators(propagation.TraceContext{})), nil
}

// networks parses what config has checked; an address is a network of one.
func networks(texts []string) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, text := range texts {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			prefixes = append(prefixes, prefix)
		} else if addr, err := netip.ParseAddr(text); err == nil {
			prefixes = append(prefixes, netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return prefixes
}

// migrated says which version the database lacks. A database that does not answer, or a role that may not read the version tables, is believed:
// what comes next will tell.
func migrated(ctx context.Context, cfg config.Config, pool *pgxpool.Pool) error {
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }() // the pool stays
	states, err := migrations.Status(ctx, db)
	if err != nil {
		return nil
	}
	for _, s := range states {
		if s.Pending() {
			return fmt.Errorf("database %s lacks migration %s/%s: run `walpost migrate up`", databaseName(cfg.DatabaseURL), s.Set, s.Name)
		}
	}
	return nil
}
