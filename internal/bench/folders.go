package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// folders are where the servers have their data.
type folders struct {
	dir       string
	kafka     string   // Kafka's, which does not exist before it is started
	temporary []string // what remove takes away
}

// makeFolders makes dir, or a temporary folder if it is empty, and one for Kafka in kafkaDir, if that is not empty.
func makeFolders(dir, kafkaDir string) (f folders, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, f.remove())
		}
	}()
	if dir == "" {
		dir, err = f.makeTemporary("")
	} else {
		dir, err = emptyFolder(dir)
	}
	if err != nil {
		return f, err
	}
	f.dir, f.kafka = dir, filepath.Join(dir, "kafka")
	if kafkaDir == "" {
		return f, nil
	}
	made, err := f.makeTemporary(kafkaDir)
	f.kafka = filepath.Join(made, "kafka")
	return f, err
}

// makeTemporary makes a folder that the account which runs PostgreSQL for root can enter.
func (f *folders) makeTemporary(parent string) (string, error) {
	if parent != "" {
		var err error
		if parent, err = filepath.Abs(parent); err != nil {
			return "", err
		}
	}
	made, err := os.MkdirTemp(parent, "walpost-bench-")
	if err != nil {
		return "", err
	}
	f.temporary = append(f.temporary, made)
	return made, os.Chmod(made, 0o755)
}

// emptyFolder makes the folder if it is missing, and refuses one that holds something.
func emptyFolder(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	if len(entries) > 0 {
		return "", fmt.Errorf("folder %s is not empty: a measurement begins with nothing, name another", dir)
	}
	return dir, os.MkdirAll(dir, 0o755)
}

func (f *folders) path(name string) string { return filepath.Join(f.dir, name) }

func (f *folders) remove() error {
	var err error
	for _, dir := range f.temporary {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// disks says what the data is on.
func (f *folders) disks(ctx context.Context) Disks {
	return Disks{Postgres: disk(ctx, f.dir), Kafka: disk(ctx, filepath.Dir(f.kafka))}
}

// disk is the folder's file system and the device that it is on.
func disk(ctx context.Context, dir string) string {
	out, err := exec.CommandContext(ctx, "df", "--output=fstype,source", dir).Output()
	if err != nil {
		return "unknown"
	}
	_, line, _ := strings.Cut(string(out), "\n") // below the headings
	fields := strings.Fields(line)
	if len(fields) != 2 {
		return "unknown"
	}
	if fields[0] == fields[1] { // tmpfs has no device
		return fields[0]
	}
	return fields[0] + " on " + fields[1]
}
