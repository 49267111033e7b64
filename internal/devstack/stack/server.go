package stack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/postgres"
)

const checkTimeout = 5 * time.Second

// process is a server that runs, as the stack sees it.
type process interface {
	PID() int
	Addr() string
	Exited() <-chan struct{}
	Check(ctx context.Context) error // nil: it serves its clients
	Stop(ctx context.Context) error
}

// attach finds the server of that name on the folder. It returns child.ErrNotRunning when it does not run. The watch behind Exited ends with ctx.
func attach(ctx context.Context, dir, name string) (process, error) {
	switch name {
	case PostgreSQL:
		s, err := postgres.Attach(ctx, postgresDir(dir))
		return database{s}, err
	case Kafka:
		return kafka.Attach(ctx, kafkaDir(dir))
	default:
		w, err := connect.Attach(ctx, connectDir(dir))
		return worker{w}, err
	}
}

func postgresDir(dir string) string { return filepath.Join(dir, "postgres") }
func kafkaDir(dir string) string    { return filepath.Join(dir, "kafka") }
func connectDir(dir string) string  { return filepath.Join(dir, "connect") }

// logOf is the file in which the server writes what happens to it.
func logOf(dir, name string) string {
	switch name {
	case PostgreSQL:
		return postgresDir(dir) + ".log"
	case Kafka:
		return filepath.Join(kafkaDir(dir), "kafka.log")
	default:
		return filepath.Join(connectDir(dir), "connect.log")
	}
}

// worker is Kafka Connect with its address in the form of the others.
type worker struct{ *connect.Worker }

// Addr is the address of the REST interface.
func (w worker) Addr() string { return hostOf(w.URL()) }

// database is PostgreSQL with what the others have too.
type database struct{ *postgres.Server }

// Addr is the address for clients.
func (d database) Addr() string { return hostOf(d.URL(Database)) }

func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Host
}

// Check returns nil when the database answers within five seconds.
func (d database) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.URL(Database))
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "select 1")
	return errors.Join(err, conn.Close(ctx))
}

// prepare makes the database when it is missing.
func (d database) prepare(ctx context.Context) error {
	if err := devstack.EnsureDatabase(ctx, d.URL("postgres"), Database); err != nil {
		return fmt.Errorf("make the database %s: %w", Database, err)
	}
	return nil
}
