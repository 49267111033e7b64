package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/maven"
	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/freeport"
)

// Stack is what the servers and the relays are started from.
type Stack struct {
	Program   string            // walpost itself; required
	Postgres  postgres.Binaries // required
	Artifacts maven.Artifacts   // Kafka; required
	Dir       string            // folder for everything, which must be empty or missing; it is left behind. Default: a temporary one, removed unless a flaw was found
	Progress  io.Writer         // lines for a person; default discarded
}

// World is a PostgreSQL and a Kafka with proxies before them, for one run after the other.
type World struct {
	stack     Stack
	dir       string
	temporary bool
	flawed    bool // a run found something, so that its traces are worth keeping

	postgres postgres.Config
	server   *postgres.Server
	kafka    kafka.Config
	broker   *kafka.Broker
	client   *kgo.Client // to the broker, not through the proxy
	admin    *kadm.Client
	toServer *proxy
	toBroker *proxy
	runs     int
}

const (
	serveLimit = 2 * time.Minute // until a server that was started serves
	askLimit   = 5 * time.Second // for one question to a server
)

// Open starts the servers. What has been started is stopped again when a part fails.
func Open(ctx context.Context, s Stack) (*World, error) {
	w := &World{stack: s, dir: s.Dir}
	if w.stack.Progress == nil {
		w.stack.Progress = io.Discard
	}
	if err := w.open(ctx); err != nil {
		return nil, errors.Join(err, w.Close(ctx))
	}
	return w, nil
}

func (w *World) open(ctx context.Context) error {
	if err := w.makeDir(); err != nil {
		return err
	}
	w.say("starting PostgreSQL %s and Kafka %s in %s", w.stack.Postgres.Version, w.stack.Artifacts.Kafka, w.dir)
	if err := w.startServer(ctx); err != nil {
		return err
	}
	return w.startBroker(ctx)
}

// makeDir makes the folder so that the account which runs PostgreSQL for root can enter it.
func (w *World) makeDir() error {
	var err error
	if w.dir == "" {
		w.temporary = true
		if w.dir, err = os.MkdirTemp("", "walpost-chaos-"); err != nil {
			return err
		}
		return os.Chmod(w.dir, 0o755)
	}
	if w.dir, err = filepath.Abs(w.dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("folder %s is not empty: a campaign begins with nothing, name another", w.dir)
	}
	return os.MkdirAll(w.dir, 0o755)
}

func (w *World) path(name string) string { return filepath.Join(w.dir, name) }

func (w *World) say(format string, args ...any) {
	_, _ = fmt.Fprintf(w.stack.Progress, format+"\n", args...) // talk is not worth failing for
}

// Kept is the folder of the traces when a run found something or the folder was named, else nothing.
func (w *World) Kept() string {
	if w.flawed || !w.temporary {
		return w.dir
	}
	return ""
}

// Close ends everything at once, whether ctx has ended or not.
func (w *World) Close(ctx context.Context) error {
	for _, p := range []*proxy{w.toServer, w.toBroker} {
		if p != nil {
			p.close()
		}
	}
	if w.client != nil {
		w.client.Close()
	}
	if w.broker != nil {
		w.broker.Kill()
	}
	var err error
	if w.server != nil {
		// The server's children have to be gone before the folder is, so it is not killed; but it need not write a checkpoint either.
		hurry, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel()
		err = w.server.Stop(hurry)
	}
	if w.Kept() != "" || w.dir == "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

func (w *World) startServer(ctx context.Context) error {
	port, err := freeport.Port()
	if err != nil {
		return err
	}
	w.postgres = postgres.Config{Binaries: w.stack.Postgres, Dir: w.path("postgres"), Port: port, Settings: serverSettings()}
	if w.server, err = postgres.Start(ctx, w.postgres); err != nil {
		return err
	}
	front, err := freeport.Addr()
	if err != nil {
		return err
	}
	w.toServer, err = newProxy(ctx, front, w.server.Addr())
	return err
}

// restartServer kills PostgreSQL, and starts it again after a while.
func (w *World) restartServer(ctx context.Context, after time.Duration) (err error) {
	w.server.Kill()
	if err := pause(ctx, after); err != nil {
		return err
	}
	w.server, err = postgres.Start(ctx, w.postgres)
	return err
}

// database makes a database with walpost's tables, and a slot of the same name: it is to be there before the first event is.
func (w *World) database(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, w.server.URL("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // its one statement has been answered
	if _, err := conn.Exec(ctx, `create database `+name); err != nil {
		return err
	}
	if err := w.walpost(ctx, "migrate", "up", "--database-url", w.server.URL(name)); err != nil {
		return err
	}
	return w.walpost(ctx, "slot", "create", "--slot", name, "--database-url", w.server.URL(name))
}

func (w *World) walpost(ctx context.Context, args ...string) error {
	if out, err := exec.CommandContext(ctx, w.stack.Program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("walpost %s: %w: %s", strings.Join(args[:2], " "), errors.Join(ctx.Err(), err), strings.TrimSpace(string(out)))
	}
	return nil
}

// Stack is what the world was made from.
func (w *World) Stack() Stack { return w.stack }
