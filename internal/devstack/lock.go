package devstack

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockFile is the file inside a directory that its owner holds locked.
const lockFile = "lock"

// Owner is what the holder of a directory tells the next process that wants it.
type Owner struct {
	PID int    `json:"pid"`
	URL string `json:"url,omitempty"` // where the holder can be looked at; "" until it is known
}

// LockedError says that another process holds a directory.
type LockedError struct {
	Dir   string
	Owner Owner
}

// Error names the directory, the process and the page of the holder.
func (e *LockedError) Error() string {
	at := ""
	if e.Owner.URL != "" {
		at = ", " + e.Owner.URL
	}
	return fmt.Sprintf("directory %s is in use by process %d%s: stop that one first, or choose another directory", e.Dir, e.Owner.PID, at)
}

// Lock is a held directory. It is held until Release or the end of the process, however that ends.
type Lock struct {
	file      *os.File
	abandoned *Owner
}

// LockDir makes the directory when it is missing and takes it for this process. It returns a *LockedError when another process holds it.
// The lock is flock(2): it goes with the process, so a killed one leaves no stale lock behind, only its name in the file.
func LockDir(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	previous := readOwner(file)
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		_ = file.Close() // only read from
		return nil, &LockedError{Dir: dir, Owner: previous}
	case err != nil:
		return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
	}
	l := &Lock{file: file}
	if previous.PID != 0 {
		l.abandoned = &previous
	}
	if err := l.Describe(""); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return l, nil
}

// Abandoned returns the earlier holder when that one ended without Release, which is to say that it was killed; else nil.
func (l *Lock) Abandoned() *Owner { return l.abandoned }

// Describe tells other processes where this one can be looked at.
func (l *Lock) Describe(url string) error {
	text, err := json.Marshal(Owner{PID: os.Getpid(), URL: url})
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return l.write(text)
}

// Release gives the directory back and notes in it that its holder ended in good order.
func (l *Lock) Release() error {
	return errors.Join(l.write(nil), l.file.Close())
}

func (l *Lock) write(text []byte) error {
	if err := l.file.Truncate(0); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	if _, err := l.file.WriteAt(text, 0); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

// readOwner reads who wrote into the file last; the zero Owner when nobody did or the text is cut short by a crash.
func readOwner(file *os.File) Owner {
	text := make([]byte, 4096)
	n, _ := file.ReadAt(text, 0) // the end of the file is expected
	var owner Owner
	if json.Unmarshal(text[:n], &owner) != nil {
		return Owner{}
	}
	return owner
}
