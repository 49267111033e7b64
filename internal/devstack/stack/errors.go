package stack

import (
	"fmt"
	"strings"
)

// BusyError says that other programs listen where servers are to be started.
type BusyError struct{ Ports []Port }

// Error names all of them.
func (e *BusyError) Error() string {
	var taken []string
	for _, p := range e.Ports {
		taken = append(taken, fmt.Sprintf("%s for %s", p.Addr, p.Server))
	}
	return fmt.Sprintf("in use by another program: %s: stop it, or choose other addresses", strings.Join(taken, ", "))
}

// AddrError says that what runs was started with another address.
type AddrError struct{ Server, Has, Wanted string }

// Error names both addresses.
func (e *AddrError) Error() string {
	return fmt.Sprintf("the stack runs with %s at %s, not at %s: leave the address as it is, or stop the stack first", e.Server, e.Has, e.Wanted)
}

// FolderError says that the folder cannot be made or written to.
type FolderError struct {
	Dir string
	Err error
}

// Error names the folder.
func (e *FolderError) Error() string { return fmt.Sprintf("folder %s: %v", e.Dir, e.Err) }

// Unwrap returns what the system said.
func (e *FolderError) Unwrap() error { return e.Err }

// RunningError says that servers run whose data would be deleted.
type RunningError struct{ Servers []Server }

// Error names the servers and their processes.
func (e *RunningError) Error() string {
	var running []string
	for _, s := range e.Servers {
		running = append(running, fmt.Sprintf("%s (process %d)", s.Name, s.PID))
	}
	return "still running: " + strings.Join(running, ", ")
}
