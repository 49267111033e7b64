package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/devstack"
)

// rootDataDir is for root, whose home is closed to the user that PostgreSQL then runs as.
const rootDataDir = "/var/lib/walpost/dev"

// leftoverTimeout is how long the database server of a killed dev gets to end. On Linux the kernel told it to when its parent died.
const leftoverTimeout = 3 * time.Second

// devData is the folder of everything that outlives a run, held for this process.
type devData struct {
	dir  string
	lock *devstack.Lock
}

func (d devData) postgres() string    { return filepath.Join(d.dir, "postgres") }
func (d devData) postgresLog() string { return filepath.Join(d.dir, "postgres.log") }
func (d devData) kafka() string       { return filepath.Join(d.dir, "kafka") }
func (d devData) fetched() string     { return filepath.Join(d.dir, "postgresql") } // its programs, where none were found

func openDevData(cfg config.Config) (devData, error) {
	dir := cfg.DataDir
	if cfg.Origin("data-dir") == config.OriginDefault && os.Geteuid() == 0 {
		dir = rootDataDir
	}
	if dir == "" {
		return devData{}, misused("there is no home folder to keep data in: name a folder with --data-dir")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return devData{}, misused("--data-dir: %w", err)
	}
	lock, err := devstack.LockDir(dir)
	if err != nil && is[*devstack.LockedError](err) {
		return devData{}, conflict("another dev is running: %w with --data-dir", err)
	}
	if err != nil {
		return devData{}, fmt.Errorf("data directory: %w: choose another with --data-dir", err)
	}
	return devData{dir: dir, lock: lock}, nil
}

// reset deletes what runs have left, and nothing else that a person may keep in the folder. It asks first.
func (d devData) reset(ctx context.Context, p *program) error {
	doomed := []string{d.postgres(), d.kafka(), d.postgresLog()}
	var there []string
	for _, path := range doomed {
		if _, err := os.Lstat(path); err == nil {
			there = append(there, path)
		}
	}
	if len(there) == 0 {
		return nil
	}
	if err := p.confirm("deletes all users, events and topics of dev: " + strings.Join(there, ", ")); err != nil {
		return err
	}
	if pid := d.awaitLeftover(ctx); pid != 0 {
		return conflict("PostgreSQL of an earlier run still runs as process %d: stop it with `kill -INT %d`", pid, pid)
	}
	var errs []error
	for _, path := range append(doomed, d.postgres()+".new") {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}

// awaitLeftover waits for the database server of a killed run to end. It returns the process that is still there, or 0.
func (d devData) awaitLeftover(ctx context.Context) (pid int) {
	if d.lock.Abandoned() == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, leftoverTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// https://www.postgresql.org/docs/current/storage-file-layout.html: the first line of postmaster.pid is the process.
		content, _ := os.ReadFile(filepath.Join(d.postgres(), "postmaster.pid")) // not there: it has ended
		line, _, _ := strings.Cut(string(content), "\n")
		pid, err := strconv.Atoi(line)
		if err != nil || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return 0
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return pid
		}
	}
}
