package bench_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// processesOf are the command lines of the processes that name the folder.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Skip("processes are looked for in /proc")
	}
	var found []string
	for _, file := range files {
		line, err := os.ReadFile(file) // a process may end meanwhile
		if err == nil && bytes.Contains(line, []byte(dir)) {
			found = append(found, strings.ReplaceAll(string(line[:min(len(line), 80)]), "\x00", " ")) // Java's class path is long
		}
	}
	return found
}

// after calls f when a line that begins so, behind the time, is told.
func after(t *testing.T, begin string, f func()) *trigger { return &trigger{testLog{t}, begin, f} }

type trigger struct {
	log   testLog
	begin string
	f     func()
}

func (g *trigger) Write(line []byte) (int, error) {
	if strings.Contains(string(line), g.begin) {
		g.f()
	}
	return g.log.Write(line)
}
