package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walpost/walpost/internal/devstack/child"
	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/maven"
	"github.com/walpost/walpost/internal/devstack/postgres"
)

const (
	healthTimeout = 90 * time.Second // for a server that runs already; one that another Up was killed over may still be starting
	portPatience  = 3 * time.Second
	undoTimeout   = 30 * time.Second // then what is still there is killed

	settleRuns = 3 // a server that has failed after each of them will fail after the next
)

// up is one run of Up.
type up struct {
	cfg      Config
	before   notes // of the Up before
	noted    notes // those, and then those of this Up
	running  map[string]process
	programs maven.Artifacts
	binaries postgres.Binaries

	mu      sync.Mutex // guards started
	started []string
}

func newUp(cfg Config) (*up, error) {
	n, err := readNotes(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if cfg, err = cfg.withDefaults(n); err != nil {
		return nil, err
	}
	if n == nil {
		if err := foreign(cfg.Dir); err != nil {
			return nil, err
		}
	}
	if err := cfg.Validate(); err != nil { // the mixture of what is given and what is noted
		return nil, err
	}
	return &up{cfg: cfg, before: n, noted: n}, nil
}

// settle runs until all servers do their work at the same time. They are waited for one by one, and a Kafka that hung may look well for a moment: until its
// controller has missed the broker.
func (u *up) settle(ctx context.Context) (state State, err error) {
	for range settleRuns {
		if err = u.run(ctx); err != nil {
			return State{}, err
		}
		if state, err = Read(ctx, u.cfg.Dir); err != nil || state.Healthy() {
			return state, err
		}
	}
	var errs []error
	for _, s := range state.Servers {
		if !s.Healthy {
			errs = append(errs, fmt.Errorf("%s (process %d) does not keep doing its work: %s: stop the stack and start it again (log: %s)", s.Name, s.PID, s.Problem, s.Log))
		}
	}
	return State{}, errors.Join(errs...)
}

// errEnded says that a server ran when Up looked and does not any more: it was killed in this moment, or while it was starting under an earlier Up.
var errEnded = errors.New("has ended")

// run does it, and once again from the beginning when the first time a server ended under it.
func (u *up) run(ctx context.Context) error {
	err := u.once(ctx)
	if errors.Is(err, errEnded) && ctx.Err() == nil {
		fmt.Fprintf(u.cfg.Progress, "%v\n", err)
		err = u.once(ctx)
	}
	return err
}

// once looks first, so that whatever cannot be is known before anything is started.
func (u *up) once(ctx context.Context) error {
	u.running = map[string]process{}
	for _, name := range names {
		p, err := attach(ctx, u.cfg.Dir, name)
		if err != nil && !errors.Is(err, child.ErrNotRunning) {
			return err
		}
		if err == nil {
			u.running[name] = p
		}
	}
	if err := errors.Join(u.sameAddrs(), u.freePorts(ctx)); err != nil {
		return err
	}
	if err := u.find(ctx); err != nil {
		return err
	}
	if err := u.note(); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return u.ensure(ctx, PostgreSQL) })
	group.Go(func() error {
		if err := u.ensure(ctx, Kafka); err != nil {
			return err
		}
		return u.ensure(ctx, Connect)
	})
	return group.Wait()
}

// sameAddrs refuses to start a part of the stack where the running rest does not look for it.
func (u *up) sameAddrs() error {
	if len(u.running) == 0 {
		return nil
	}
	before, err := Config{Dir: u.cfg.Dir}.withDefaults(u.noted)
	if err != nil {
		return err
	}
	var errs []error
	told := map[string]bool{} // of a server's two ports the first will do
	has, wanted := before.ports(), u.cfg.ports()
	for i, p := range has {
		if p != wanted[i] && !told[p.Server] {
			errs = append(errs, &AddrError{p.Server, p.Addr, wanted[i].Addr})
			told[p.Server] = true
		}
	}
	return errors.Join(errs...)
}

// freePorts names all the ports at once that somebody else has. One that a server of ours had may be its own for a moment after its end: a large process
// that is killed gives up its ports some time after it counts as ended.
func (u *up) freePorts(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var late <-chan time.Time
	if u.noted != nil {
		late = time.After(portPatience)
	}
	for {
		err := u.busyPorts(ctx)
		var busy *BusyError
		if late == nil || !errors.As(err, &busy) {
			return err
		}
		select {
		case <-tick.C:
		case <-late:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

func (u *up) busyPorts(ctx context.Context) error {
	var busy []Port
	for _, p := range u.cfg.ports() {
		if u.running[p.Server] != nil {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", p.Addr)
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			busy = append(busy, p)
		case err != nil:
			return fmt.Errorf("%s: %w", p.Server, err)
		default:
			_ = l.Close() // nothing came in
		}
	}
	if len(busy) > 0 {
		return &BusyError{busy}
	}
	return nil
}

// find gets the programs of the servers that do not run.
func (u *up) find(ctx context.Context) (err error) {
	if u.running[Kafka] == nil || u.running[Connect] == nil {
		cache := u.cfg.Cache
		if cache == "" {
			cache, err = maven.UserCache()
		}
		if err != nil { // a user without a home folder
			cache = filepath.Join(u.cfg.Dir, "maven")
		}
		if u.programs, err = maven.Resolve(ctx, maven.Config{Dir: cache, Progress: u.cfg.Progress}); err != nil {
			return err
		}
	}
	if u.running[PostgreSQL] == nil {
		fetched := filepath.Join(u.cfg.Dir, "postgresql")
		u.binaries, err = postgres.Find(ctx, u.cfg.PGBin, fetched)
		if errors.Is(err, postgres.ErrNotFound) {
			u.binaries, err = postgres.Fetch(ctx, fetched, postgres.FetchVersion, u.cfg.Progress)
		}
	}
	return err
}

// note writes down what is about to be started.
func (u *up) note() error {
	n := notes{
		PostgreSQL: {Version: u.binaries.Version, Addr: u.cfg.PostgresAddr},
		Kafka:      {Version: u.programs.Kafka, Addr: u.cfg.KafkaAddr, ControllerPort: u.cfg.ControllerPort, HeapMiB: u.cfg.KafkaHeapMiB},
		Connect: {
			Version: u.programs.Kafka + " with Debezium " + u.programs.Debezium, Addr: u.cfg.ConnectAddr, HeapMiB: u.cfg.ConnectHeapMiB,
		},
	}
	for name := range u.running {
		if has, wants := u.noted[name].HeapMiB, n[name].HeapMiB; has != wants {
			fmt.Fprintf(u.cfg.Progress, "%s keeps its heap of %d MiB until it is stopped and started again\n", name, has)
		}
		n[name] = u.noted[name]
	}
	if maps.Equal(n, u.noted) {
		return nil
	}
	u.noted = n
	return n.write(u.cfg.Dir)
}

// ensure returns when the server does its work, started now or before.
func (u *up) ensure(ctx context.Context, name string) error {
	if p := u.running[name]; p != nil {
		return u.await(ctx, name, p)
	}
	begin := time.Now()
	fmt.Fprintf(u.cfg.Progress, "starting %s %s at %s\n", name, u.noted[name].Version, u.noted[name].Addr)
	if err := u.start(ctx, name); err != nil {
		return fmt.Errorf("%w (log: %s)", err, logOf(u.cfg.Dir, name))
	}
	fmt.Fprintf(u.cfg.Progress, "%s is ready after %.1f s\n", name, time.Since(begin).Seconds())
	return nil
}

// await waits for a server that runs already: it may have been started a moment ago, or have lost the one that it depends on.
func (u *up) await(ctx context.Context, name string, p process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, healthTimeout, fmt.Errorf("waited %v", healthTimeout))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for told := false; ; told = true {
		err := check(ctx, p)
		if err == nil {
			return nil
		}
		if !told {
			fmt.Fprintf(u.cfg.Progress, "waiting for %s, which runs as process %d\n", name, p.PID())
		}
		select {
		case <-tick.C:
		case <-p.Exited():
			return fmt.Errorf("%s (process %d) %w (log: %s)", name, p.PID(), errEnded, logOf(u.cfg.Dir, name))
		case <-ctx.Done():
			return fmt.Errorf("%s (process %d) runs and does not do its work: %w: %w: stop the stack and start it again (log: %s)",
				name, p.PID(), context.Cause(ctx), err, logOf(u.cfg.Dir, name))
		}
	}
}

// check makes the database too, in case an earlier Up was killed before it did. A server that hangs fails it after ten seconds.
func check(ctx context.Context, p process) error {
	ctx, cancel := context.WithTimeout(ctx, 2*checkTimeout)
	defer cancel()
	if db, ok := p.(database); ok {
		if err := db.prepare(ctx); err != nil {
			return err
		}
	}
	return p.Check(ctx)
}

func (u *up) start(ctx context.Context, name string) error {
	switch name {
	case PostgreSQL:
		s, err := postgres.Start(ctx, postgres.Config{
			Binaries: u.binaries, Dir: postgresDir(u.cfg.Dir), Port: portOf(u.cfg.PostgresAddr), Detach: true,
		})
		if err != nil {
			return err
		}
		u.hasStarted(name)
		return database{s}.prepare(ctx)
	case Kafka:
		_, err := kafka.Start(ctx, kafka.Config{
			Artifacts: u.programs, Dir: kafkaDir(u.cfg.Dir), Addr: u.cfg.KafkaAddr, ControllerPort: u.cfg.ControllerPort,
			HeapMiB: u.cfg.KafkaHeapMiB, JavaOptions: u.cfg.JavaOptions, Detach: true,
		})
		if err != nil {
			return err
		}
	default:
		// A worker without this refuses connectors that demand exactly-once. One with it writes for all its source connectors in transactions.
		settings := map[string]string{"exactly.once.source.support": "enabled"}
		maps.Copy(settings, u.cfg.ConnectSettings)
		_, err := connect.Start(ctx, connect.Config{
			Artifacts: u.programs, Brokers: []string{u.cfg.KafkaAddr}, Dir: connectDir(u.cfg.Dir), Addr: u.cfg.ConnectAddr,
			HeapMiB: u.cfg.ConnectHeapMiB, JavaOptions: u.cfg.JavaOptions, Settings: settings, Detach: true,
		})
		if err != nil {
			return err
		}
	}
	u.hasStarted(name)
	return nil
}

func (u *up) hasStarted(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !slices.Contains(u.started, name) {
		u.started = append(u.started, name)
	}
}

// undo stops what this run has started, also when ctx has ended, and takes its notes back. What was in the middle of its start was ended there.
func (u *up) undo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	started := slices.DeleteFunc(backward(names), func(name string) bool { return !slices.Contains(u.started, name) })
	if _, err := stop(ctx, u.cfg.Dir, started, u.cfg.Progress); err != nil {
		return err
	}
	if u.before == nil { // what lies in the folder is ours all the same
		return nil
	}
	return u.before.write(u.cfg.Dir)
}
