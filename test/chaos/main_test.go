// Package chaos_test holds the relay against the fault campaign, and the campaign against relays that are broken on purpose.
package chaos_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/chaos"
	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

var (
	seed  = flag.Uint64("seed", 0, "seed of the first run; 0 takes the clock's")
	every = flag.Bool("every", false, "try every mutant, also those that take long to be found")
)

// shared are the servers that all tests of this process use, one run at a time.
var shared struct {
	once  sync.Once
	world *chaos.World
	dir   string // of programs
	err   error
}

func TestMain(m *testing.M) {
	flag.Parse()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixMilli()) % 1_000_000_000
	}
	code := m.Run()
	if shared.world != nil {
		if kept := shared.world.Kept(); kept != "" && code != 0 {
			fmt.Fprintln(os.Stderr, "data, logs and histories are kept in", kept)
		}
		if err := shared.world.Close(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	_ = os.RemoveAll(shared.dir) // best effort in the system's temporary folder
	os.Exit(code)
}

// world starts the servers with the first test that wants them. The test is skipped where a part is missing.
func world(t *testing.T) *chaos.World {
	t.Helper()
	if testing.Short() {
		t.Skip("takes minutes: run without -short")
	}
	artifacts := stacktest.Artifacts(t)
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "walpost-chaos-test-"); shared.err != nil {
			return
		}
		var binaries postgres.Binaries
		if binaries, shared.err = postgres.Find(context.Background(), "", ""); shared.err != nil {
			shared.err = fmt.Errorf("%w: install PostgreSQL 15 or newer", shared.err)
			return
		}
		program := filepath.Join(shared.dir, "walpost")
		if shared.err = build(program, nil); shared.err != nil {
			return
		}
		shared.world, shared.err = chaos.Open(context.Background(), chaos.Stack{Program: program, Postgres: binaries, Artifacts: artifacts, Progress: os.Stderr})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.world
}

// build builds walpost, with some of its files replaced by others: by path below the module's root, the path of the other.
func build(program string, replaced map[string]string) error {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for path, other := range replaced {
		overlay.Replace[filepath.Join(root, path)] = other
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		return err
	}
	file := program + ".overlay.json"
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-overlay", file, "-o", program, ".")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}
