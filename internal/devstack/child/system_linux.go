package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// dieWithParent makes the kernel send the child a signal when the thread that starts it dies, which is when this process does.
func dieWithParent(attr *syscall.SysProcAttr, signal syscall.Signal) { attr.Pdeathsig = signal }

// beginning tells which process of this number it is: the system's current boot and the tick in which the process began. It returns
// os.ErrProcessDone when no such process runs; one that has ended and whose parent has not asked for it yet does not run.
// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
func beginning(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return "", os.ErrProcessDone
	}
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	// "4711 (a name) with spaces) S 1 …": the name ends at the last parenthesis; the state is the third field, the start time the 22nd.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return "", fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	if state := fields[0][0]; state == 'Z' || state == 'X' {
		return "", os.ErrProcessDone
	}
	return fmt.Sprintf("%s %s", bytes.TrimSpace(boot), fields[19]), nil
}
