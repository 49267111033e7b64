// Package child runs a server program as a child process: one that ends with this process, or a detached one that outlives it and is found again.
//
// It knows processes only: what the program is, how it is configured and when it is ready is its caller's business. It restarts nothing.
// A running child is named in a record, a small file with its process id and the time the system says it began, so that a number which the system
// has given to another process meanwhile is never taken for it. The record of a child that has ended stays and names nothing.
// The invariant: at most one child runs on a record, and Attach, Stop and Kill reach that child or nothing.
package child

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// outputPatience is how long a child that has ended counts as running because its own children still hold its output.
const outputPatience = 5 * time.Second

// ErrNotRunning says that a record names no running process.
var ErrNotRunning = errors.New("not running")

// RunningError says that a detached child runs on the record already.
type RunningError struct {
	Name string
	PID  int
	Addr string
}

// Error names the process and where it listens.
func (e *RunningError) Error() string {
	return fmt.Sprintf("%s runs already (process %d, %s): stop it first", e.Name, e.PID, e.Addr)
}

// Step is one way of asking a process to stop.
type Step struct {
	Signal   syscall.Signal `json:"signal"`
	Patience time.Duration  `json:"patience"` // before the next step; after the last one comes SIGKILL
}

// Command says what Start starts.
type Command struct {
	Name       string              // what a person calls the program, for errors and the record
	Path       string              // of the program
	Args       []string            // without the program's name
	Dir        string              // working directory; default "/", which every account can enter
	Credential *syscall.Credential // account that runs it; default this process's
	Addr       string              // where it will listen, for whoever attaches; not used here
	Record     string              // the record's file; required, its folder must exist
	Stop       []Step              // how it is asked to stop, also by whoever attaches; default straight to SIGKILL
	Log        io.Writer           // what it prints; default discarded; not used when it is detached
	Orphan     syscall.Signal      // what the kernel sends it when this process dies (Linux; elsewhere the next Start stops it); default SIGKILL
	Detach     bool                // it outlives this process, in a session of its own; default false
	Output     string              // file for what it prints when detached; required then. That of the run before is kept as Output.1
}

// Process is a child, or a process found by Attach. Its methods are safe for concurrent use.
type Process struct {
	rec    record
	proc   *os.Process   // on Linux a handle, not a number: it cannot reach another process
	tail   *tail         // nil when the output goes to a file
	exited chan struct{} // closed by the goroutine that watches the process
	child  bool          // of this process, which therefore learns of its end from the system
}

// Start starts the program and writes the record. A child that an earlier process left behind on the record is stopped first; a detached one is not:
// Start returns a *RunningError then. It does not wait until the program is ready: see Await. The end of ctx does not end the child.
func Start(ctx context.Context, c Command) (*Process, error) {
	if err := Evict(ctx, c.Record); err != nil {
		return nil, err
	}
	p := &Process{exited: make(chan struct{}), child: true}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.Path, c.Args...)
	cmd.WaitDelay = outputPatience
	cmd.Dir = "/"
	if c.Dir != "" {
		cmd.Dir = c.Dir
	}
	// A process group of its own, so that Ctrl-C reaches us first and the child when we stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.Credential, Setpgid: !c.Detach, Setsid: c.Detach}
	if c.Detach {
		keepDescriptors()
		out, err := openOutput(c.Output)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", c.Name, err)
		}
		defer func() { _ = out.Close() }() // the child has a descriptor of its own
		cmd.Stdout, cmd.Stderr = out, out
	} else {
		p.tail = &tail{next: c.Log}
		cmd.Stdout, cmd.Stderr = p.tail, p.tail
		dieWithParent(cmd.SysProcAttr, cmp.Or(c.Orphan, syscall.SIGKILL))
	}
	if err := p.spawn(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	if err := p.describe(c); err != nil {
		p.Kill()
		return nil, fmt.Errorf("start %s: %w", c.Name, err)
	}
	return p, nil
}

// spawn starts the process on a thread of its own, because the kernel's death signal is bound to the thread that started the child, and waits there
// for its end.
func (p *Process) spawn(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	p.proc = cmd.Process
	return nil
}

// describe writes the record. That the child has ended already is no error here: its caller learns it from Await, with the log.
func (p *Process) describe(c Command) error {
	p.rec = record{Name: c.Name, PID: p.proc.Pid, Addr: c.Addr, Detached: c.Detach, Stop: c.Stop}
	if c.Detach {
		p.rec.Output = c.Output
	}
	var err error
	if p.rec.Began, err = beginning(p.proc.Pid); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return p.rec.write(c.Record)
}

// Attach finds the process that the record in the file names, whoever started it. It returns ErrNotRunning when there is none. The watch behind Exited
// ends with ctx; everything else does without it.
func Attach(ctx context.Context, file string) (*Process, error) {
	rec, err := readRecord(file)
	if err != nil {
		return nil, err
	}
	gone := fmt.Errorf("%s: %w", rec.Name, ErrNotRunning)
	proc, err := os.FindProcess(rec.PID)
	if err != nil {
		return nil, gone
	}
	p := &Process{rec: rec, proc: proc, exited: make(chan struct{})}
	if p.ended() { // asked after FindProcess, so that the handle is on the process whose beginning was compared
		return nil, gone
	}
	go func() {
		if p.Wait(ctx) == nil {
			close(p.exited)
		}
	}()
	return p, nil
}

// Evict stops a child that an earlier process left behind on the record. It returns a *RunningError when that child is detached, and so wanted.
func Evict(ctx context.Context, file string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := Attach(ctx, file)
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	if p.Detached() {
		return &RunningError{Name: p.rec.Name, PID: p.rec.PID, Addr: p.rec.Addr}
	}
	return p.Stop(ctx)
}

// PID is the process id.
func (p *Process) PID() int { return p.rec.PID }

// Addr is the address in the command that started the process.
func (p *Process) Addr() string { return p.rec.Addr }

// Detached reports whether the process outlives the one that started it.
func (p *Process) Detached() bool { return p.rec.Detached }

// Log returns the last lines that the process printed, at most 4 KiB; nothing for another process's child that is not detached.
func (p *Process) Log() string {
	if p.tail != nil {
		return p.tail.String()
	}
	return tailOf(p.rec.Output)
}
