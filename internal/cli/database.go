package cli

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
)

// openPool makes the pool of a server, of conns connections unless the connection string has pool_max_conns; it does not connect. The process
// is ready only while the database answers.
func openPool(ctx context.Context, cfg config.Config, o *ops.Ops, conns int) (*pgxpool.Pool, error) {
	settings, err := pgxpool.ParseConfig(cfg.DatabaseURL)
	if err != nil {
		return nil, databaseError(cfg, err)
	}
	if !strings.Contains(cfg.DatabaseURL, "pool_max_conns") {
		settings.MaxConns = int32(conns)
	}
	if cfg.Tracing {
		settings.ConnConfig.Tracer = otelpgx.NewTracer(otelpgx.WithTracerProvider(o.Traces))
	}
	if settings.ConnConfig.ConnectTimeout == 0 {
		settings.ConnConfig.ConnectTimeout = connectTimeout
	}
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, databaseError(cfg, err)
	}
	o.Health.Register("database", func(ctx context.Context) error { return pool.Ping(ctx) })
	return pool, nil
}

// openDB connects for a command that is not a server, and proves that the database answers. The caller closes it.
func openDB(ctx context.Context, cfg config.Config) (*sql.DB, error) {
	settings, err := pgx.ParseConfig(cfg.DatabaseURL)
	if err != nil {
		return nil, databaseError(cfg, err)
	}
	if settings.ConnectTimeout == 0 {
		settings.ConnectTimeout = connectTimeout
	}
	db := stdlib.OpenDB(*settings)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(databaseError(cfg, err), db.Close())
	}
	return db, nil
}

// databaseError says which database did not let us in and what to do. It keeps the server's own message and leaves the driver's out, which
// repeats the address for each way to connect.
func databaseError(cfg config.Config, err error) error {
	name := databaseName(cfg.DatabaseURL)
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return fmt.Errorf("database %s: %s (%s): %s", name, refused.Message, refused.Code, sqlHint(refused.Code))
	}
	var connect *pgconn.ConnectError
	if !errors.As(err, &connect) {
		return fmt.Errorf("database %s: %w", name, err)
	}
	hint := "start it, or name another with --database-url"
	if strings.Contains(err.Error(), "tls") || strings.Contains(err.Error(), "certificate") {
		hint = "give the server a certificate that this machine trusts (sslrootcert=…), or name another sslmode in --database-url"
	}
	return fmt.Errorf("database %s cannot be reached: %w: %s", name, innermost(connect), hint)
}

// sqlHint says what to do about a server's refusal. https://www.postgresql.org/docs/current/errcodes-appendix.html
func sqlHint(code string) string {
	switch {
	case strings.HasPrefix(code, "28"):
		return "look at user and password in --database-url, and at the server's pg_hba.conf"
	case code == "3D000":
		return "create the database, or name another with --database-url"
	case code == "42501":
		return "let the owner of the tables run this, or grant what is missing"
	case code == "42P01" || code == "42883":
		return "run `walpost migrate up` first"
	case strings.HasPrefix(code, "53"), strings.HasPrefix(code, "57P"):
		return "try again when the server has room or has started"
	}
	return "see the server's log"
}

// innermost finds the network's or the system's own words under the driver's.
func innermost(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	for {
		switch wrapped := err.(type) { //nolint:errorlint // it is the wrapping itself that is taken off
		case interface{ Unwrap() error }:
			if wrapped.Unwrap() == nil {
				return err
			}
			err = wrapped.Unwrap()
		case interface{ Unwrap() []error }:
			if len(wrapped.Unwrap()) == 0 {
				return err
			}
			err = wrapped.Unwrap()[0] // one for each way to connect: the first will do
		default:
			return err
		}
	}
}

// databaseName is host, port and database without user or password: enough to know which one is meant.
func databaseName(url string) string {
	settings, err := pgconn.ParseConfig(url)
	if err != nil {
		return config.Redact(url)
	}
	host := net.JoinHostPort(settings.Host, strconv.Itoa(int(settings.Port)))
	if strings.HasPrefix(settings.Host, "/") {
		host = settings.Host
	}
	return host + "/" + settings.Database
}
