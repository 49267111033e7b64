package child

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// record is what the file says about a child, for a later process.
type record struct {
	Name     string `json:"name"`
	PID      int    `json:"pid"`
	Began    string `json:"began"` // in the system's own terms, see beginning
	Addr     string `json:"addr,omitempty"`
	Detached bool   `json:"detached,omitempty"`
	Output   string `json:"output,omitempty"`
	Stop     []Step `json:"stop,omitempty"`
}

// write replaces the file in one step, so that nobody reads half a record.
func (r record) write(file string) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fresh := file + ".new"
	if err := os.WriteFile(fresh, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(fresh, file)
}

func readRecord(file string) (record, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return record{}, ErrNotRunning
	}
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, fmt.Errorf("process record %s: %w: see which process it should name, then remove the file", file, err)
	}
	if r.PID <= 0 { // kill(2) takes such a number for a whole group of processes
		return record{}, fmt.Errorf("process record %s names no process: remove the file", file)
	}
	return r, nil
}
