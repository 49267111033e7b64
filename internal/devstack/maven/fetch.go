package maven

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// fetch fills a folder beside dir and gives it the name dir when it is complete.
func fetch(ctx context.Context, cfg Config, dir string, sums []byte) ([]string, error) {
	mvn, err := findMaven(cfg.Maven)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, filepath.Join(cfg.Dir, "lock"), cfg.Progress)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if files, err := complete(dir); err == nil {
		return files, nil // by the process that had the lock before
	}
	work, err := prepare(cfg.Dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(work) }() // best effort: the next fetch removes a leftover

	fmt.Fprintln(cfg.Progress, "fetching Kafka and Debezium with Maven (about 95 MB, once)")
	begin := time.Now()
	if err := run(ctx, mvn, work, cfg.Progress); err != nil {
		return nil, err
	}
	fmt.Fprintf(cfg.Progress, "  fetched in %d s\n", int(time.Since(begin).Seconds()))
	if err := seal(work, sums); err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(work, dir)); err != nil {
		return nil, err
	}
	return complete(dir)
}

// prepare removes what interrupted fetches left in the cache and makes a work folder with the pom. The caller holds the lock.
func prepare(cache string) (string, error) {
	leftovers, err := filepath.Glob(filepath.Join(cache, ".fetch-*"))
	if err != nil {
		return "", err
	}
	for _, leftover := range leftovers {
		if err := os.RemoveAll(leftover); err != nil {
			return "", err
		}
	}
	work, err := os.MkdirTemp(cache, ".fetch-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return "", err
	}
	return work, os.WriteFile(filepath.Join(work, "pom.xml"), pom, 0o644)
}

// run runs Maven in the work folder. It goes without --strict-checksums, which refuses files that have none: sums.txt has one for each.
func run(ctx context.Context, mvn, work string, progress io.Writer) error {
	cmd := exec.CommandContext(ctx, mvn, "--batch-mode", "--file", filepath.Join(work, "pom.xml"), "-Dstack.dir="+work, "process-resources")
	cmd.Dir = work // no settings of whatever folder we are in
	cmd.WaitDelay = 5 * time.Second
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	talk := make(chan string, 1)
	go func() { talk <- follow(out, progress) }()
	err := cmd.Run()
	_ = in.Close() // ends follow; never fails
	said := <-talk
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", mvn, err, said)
	}
	return nil
}

var downloaded = regexp.MustCompile(`Downloaded from \S+ \S+ \(([\d.]+) (B|kB|MB)`)

// follow reads what Maven prints to its end, writes a line of progress every two seconds while it downloads, and returns Maven's first complaint.
func follow(out io.Reader, progress io.Writer) (complaint string) {
	begin := time.Now()
	next := begin.Add(2 * time.Second)
	var files int
	var bytes float64
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "[ERROR] "); ok && complaint == "" {
			complaint = text
		}
		match := downloaded.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		files++
		size, _ := strconv.ParseFloat(match[1], 64) // the pattern admits numbers only
		bytes += size * map[string]float64{"B": 1, "kB": 1e3, "MB": 1e6}[match[2]]
		if now := time.Now(); now.After(next) {
			next = now.Add(2 * time.Second)
			fmt.Fprintf(progress, "  %d files, %.0f MB, %d s\n", files, bytes/1e6, int(now.Sub(begin).Seconds()))
		}
	}
	_, _ = io.Copy(io.Discard, out) // a line beyond the buffer must not block Maven
	return complaint
}
