package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// recvlogical is PostgreSQL's own reader, writing to /dev/null: the yardstick of a drain. It carries nothing to Kafka.
type recvlogical struct{ path string }

func (recvlogical) about() Contestant {
	return Contestant{
		Name: PgRecvlogical, Label: "pg_recvlogical", What: "PostgreSQL's own reader, to /dev/null: the yardstick, no Kafka, no decoding",
	}
}

// findRecvlogical looks beside the server's programs, then on the PATH.
func findRecvlogical(dir string) (recvlogical, error) {
	path := filepath.Join(dir, PgRecvlogical)
	if _, err := os.Stat(path); err == nil {
		return recvlogical{path}, nil
	}
	path, err := exec.LookPath(PgRecvlogical)
	if err != nil {
		return recvlogical{}, fmt.Errorf("no pg_recvlogical in %s nor on the PATH: install PostgreSQL's client programs, or leave it out of --against", dir)
	}
	return recvlogical{path}, nil
}

// read reads the slot up to the position and returns how long that took and the processor time of the reader.
func (r recvlogical) read(ctx context.Context, w *world, slot, until string) (took, cpu time.Duration, err error) {
	cmd := exec.CommandContext(ctx, r.path, "--dbname", w.url(), "--slot", slot, "--start", "--endpos", until, "--no-loop", "--file", "/dev/null",
		"--option", "proto_version=1", "--option", "publication_names="+publication)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches it through ctx
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return 0, 0, context.Cause(ctx)
		}
		return 0, 0, fmt.Errorf("pg_recvlogical: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return time.Since(began), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}
