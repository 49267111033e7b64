package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// notes say how each server was started last, by its name. They are written before a server is started, so that a folder which has none holds nothing
// of ours.
type notes map[string]note

type note struct {
	Version        string `json:"version"`
	Addr           string `json:"addr"`
	ControllerPort int    `json:"controller_port,omitempty"`
	HeapMiB        int    `json:"heap_mib,omitempty"`
}

func notesFile(dir string) string { return filepath.Join(dir, "stack.json") }

// readNotes returns nil when there are none.
func readNotes(dir string) (notes, error) {
	text, err := os.ReadFile(notesFile(dir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := notes{}
	if err := json.Unmarshal(text, &n); err != nil {
		return nil, fmt.Errorf("%s is not what it was written as: %w: see what runs, then remove the file", notesFile(dir), err)
	}
	return n, nil
}

// write replaces the file in one step, so that nobody reads half of it.
func (n notes) write(dir string) error {
	text, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	fresh := notesFile(dir) + ".new"
	if err := os.WriteFile(fresh, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, notesFile(dir))
}

// own are the paths of the folder that the servers fill. What else lies there, such as PostgreSQL's programs, serves the next stack too.
func own(dir string) []string {
	var paths []string
	for _, name := range []string{"postgres", "postgres.new", "postgres.process", "postgres.process.new", "postgres.log", "postgres.log.1", "kafka", "connect"} {
		paths = append(paths, filepath.Join(dir, name))
	}
	return paths
}

// Contents lists what Reset deletes: what there is of the data and the logs of the servers.
func Contents(dir string) ([]string, error) {
	n, err := readNotes(dir)
	if err != nil || n == nil {
		return nil, err
	}
	return existing(own(dir)), nil
}

func existing(paths []string) []string {
	var there []string
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			there = append(there, path)
		}
	}
	return there
}
