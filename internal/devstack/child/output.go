package child

import (
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// tailBytes is how much of what a process prints is kept for error messages.
const tailBytes = 4096

// tail is a writer that remembers the end of what it was given and passes all of it on.
type tail struct {
	next io.Writer // nil: nowhere

	mu   sync.Mutex // protects last
	last []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	t.last = append(t.last, p...)
	if extra := len(t.last) - tailBytes; extra > 0 {
		t.last = append(t.last[:0], t.last[extra:]...)
	}
	t.mu.Unlock()
	if t.next == nil {
		return len(p), nil
	}
	return t.next.Write(p)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.last))
}

// keepDescriptors makes sure that a detached process gets none of the descriptors that this one was given by whoever started it: the lock that a script
// holds, or the pipe whose end it waits for, would be held until the detached process ends. Those that this process opened itself are not passed on anyway.
func keepDescriptors() {
	open, _ := os.ReadDir("/dev/fd") // where there is no such folder they are passed on
	for _, entry := range open {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}

// openOutput makes a new file for what a detached process prints and keeps that of the run before.
func openOutput(file string) (*os.File, error) {
	if err := os.Rename(file, file+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}

// tailOf returns the end of the file, or nothing: it serves messages about something else that went wrong.
func tailOf(name string) string {
	file, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }() // opened for reading
	info, err := file.Stat()
	if err != nil {
		return ""
	}
	start := max(0, info.Size()-tailBytes)
	text, _ := io.ReadAll(io.NewSectionReader(file, start, tailBytes)) // what could be read is worth showing
	return strings.TrimSpace(string(text))
}
