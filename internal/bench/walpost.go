package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/walpost/walpost/internal/devstack/child"
)

// publication is the one that walpost's migration makes.
const publication = "walpost_outbox"

// walpost is our relay in a delivery mode, as a process of its own.
type walpost struct{ delivery string }

func (c walpost) about() Contestant {
	return Contestant{
		Name: WalpostWith(c.delivery), Label: label(c.delivery),
		What:     "`walpost relay --delivery " + c.delivery + "`, every other setting at its default",
		Settings: map[string]string{"delivery": c.delivery},
	}
}

func (c walpost) start(ctx context.Context, w *world, l lane) (carrier, error) {
	p, err := w.program(ctx, l.name+"-relay", "relay", "--delivery", c.delivery, "--slot", l.slot, "--publication", publication,
		"--table", "outbox_events", "--topic", l.topic, "--kafka-brokers", w.broker.Addr(), "--database-url", w.url())
	if err != nil {
		return nil, err
	}
	return program{p}, nil
}

// program is a walpost command at work.
type program struct{ process *child.Process }

// program starts a walpost command that serves until it is stopped. It ends with this process, however that ends.
func (w *world) program(ctx context.Context, name, command string, args ...string) (*child.Process, error) {
	args = append([]string{command}, args...)
	args = append(args, "--ops-addr", "127.0.0.1:0", "--log-format", "json", "--log-level", "warn")
	return child.Start(ctx, child.Command{
		Name: "walpost " + command, Path: w.stack.Program, Args: args, Record: filepath.Join(w.dir, name+".process"),
		Stop: []child.Step{{Signal: syscall.SIGTERM, Patience: 15 * time.Second}},
	})
}

func (p program) pid() int { return p.process.PID() }

func (p program) trouble(context.Context) error {
	select {
	case <-p.process.Exited():
		return fmt.Errorf("it has ended: %s", p.process.Log())
	default:
		return nil
	}
}

func (p program) stop(ctx context.Context) error {
	if err := p.trouble(ctx); err != nil {
		return err
	}
	return p.process.Stop(ctx)
}
