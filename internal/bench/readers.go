package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// readLimit bounds one reading of a backlog.
const readLimit = 10 * time.Minute

// reader is a program that reads a backlog and carries nothing to Kafka: what reading alone takes.
type reader struct {
	Contestant
	path  string
	args  func(database, slot, until string) []string
	count func(stdout []byte) (int, error) // of the events that it read; nil when it does not tell
}

// recvlogical is PostgreSQL's own reader, writing to /dev/null: the yardstick.
func recvlogical(path string) reader {
	return reader{
		Contestant: Contestant{
			Name: PgRecvlogical, Label: "pg_recvlogical", What: "PostgreSQL's own reader, to /dev/null: the yardstick, no Kafka, no decoding",
		},
		path: path,
		args: func(database, slot, until string) []string {
			return []string{
				"--dbname", database, "--slot", slot, "--start", "--endpos", until, "--no-loop", "--file", "/dev/null",
				"--option", "proto_version=1", "--option", "publication_names=" + publication,
			}
		},
	}
}

// findRecvlogical looks beside the server's programs, then on the PATH.
func findRecvlogical(dir string) (reader, error) {
	path := filepath.Join(dir, PgRecvlogical)
	if _, err := os.Stat(path); err == nil {
		return recvlogical(path), nil
	}
	path, err := exec.LookPath(PgRecvlogical)
	if err != nil {
		return reader{}, fmt.Errorf("no pg_recvlogical in %s nor on the PATH: install PostgreSQL's client programs, or leave it out of --against", dir)
	}
	return recvlogical(path), nil
}

// walpostRead is `walpost bench read`, which runs Read.
func walpostRead(program string) reader {
	return reader{
		Contestant: Contestant{
			Name: WalpostRead, Label: "walpost, reading alone", What: "walpost's source, decoding each event into a record, to a sink that throws it away and confirms it",
		},
		path: program,
		args: func(database, slot, until string) []string {
			return []string{
				"bench", "read", "--database-url", database, "--slot", slot, "--publication", publication, "--table", "outbox_events", "--until", until,
				"--output", "json", "--log-level", "warn",
			}
		},
		count: func(stdout []byte) (int, error) {
			var result ReadResult
			err := json.Unmarshal(stdout, &result)
			return result.Events, err
		},
	}
}

// findReaders are those among the contestants' names.
func findReaders(against []string, s Stack) (list []reader, err error) {
	if slices.Contains(against, PgRecvlogical) {
		yardstick, err := findRecvlogical(s.Postgres.Dir)
		if err != nil {
			return nil, err
		}
		list = append(list, yardstick)
	}
	if slices.Contains(against, WalpostRead) {
		list = append(list, walpostRead(s.Program))
	}
	return list, nil
}

// reading is what a reader did with a backlog.
type reading struct {
	took, cpu time.Duration
	stdout    []byte
}

// read has the program read the slot up to the position. It is timed from its start to its end, which takes some 20 ms. started is given its process.
func (r reader) read(ctx context.Context, database, slot, until string, started func(pid int)) (reading, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readLimit, fmt.Errorf("it has not reached %s in %v", until, readLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, r.path, r.args(database, slot, until)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches it through ctx
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return reading{}, fmt.Errorf("%s: %w", r.Name, err)
	}
	started(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return reading{}, context.Cause(ctx)
		}
		return reading{}, fmt.Errorf("%s: %w: %s", r.Name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return reading{time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), stdout.Bytes()}, nil
}

// drainTo has the reader read the whole backlog once.
func (w *world) drainTo(ctx context.Context, r reader, b backlog, name string) (d Drain, err error) {
	l, err := b.lane(ctx, w, name)
	if err != nil {
		return Drain{}, err
	}
	defer func() {
		if ctx.Err() == nil {
			err = errors.Join(err, w.dropSlot(ctx, l.slot))
		}
	}()
	m := newMeter()
	w.watchServers(m, l.slot)
	var pid atomic.Int64
	m.watch(ProcessRelay, func(context.Context) []int { return []int{int(pid.Load())} })
	stop := m.start(ctx)
	defer stop()
	from := m.mark(ctx)
	got, err := r.read(ctx, w.url(), l.slot, b.until, func(started int) { pid.Store(int64(started)) })
	if err != nil {
		return Drain{}, err
	}
	d = Drain{
		Contestant: r.Name, Count: Count{Written: b.rows}, Rows: b.rows, Seconds: round(got.took.Seconds(), 4),
		Rate: round(float64(b.rows)/got.took.Seconds(), 0), Use: m.between(from, m.mark(ctx)),
	}
	if i := slices.IndexFunc(d.Use, func(u Use) bool { return u.Process == ProcessRelay }); i >= 0 {
		d.Use[i].CPUSeconds = round(got.cpu.Seconds(), 3) // as the system gave it at the end; the meter has missed the last moment
	}
	if r.count != nil {
		if d.Count.Seen, err = r.count(got.stdout); err != nil {
			return Drain{}, fmt.Errorf("%s: %w: %s", r.Name, err, got.stdout)
		}
		d.Count.Lost, d.Count.Doubled = max(b.rows-d.Count.Seen, 0), max(d.Count.Seen-b.rows, 0)
	}
	return d, nil
}
