//go:build unix && !linux

package child

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent does nothing here: the next Start stops a child that was left behind.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// beginning tells which process of this number it is: the second in which it began. It returns os.ErrProcessDone when no such process runs; one that
// has ended and whose parent has not asked for it yet does not run.
func beginning(pid int) (string, error) {
	out, err := exec.Command("ps", "-o", "stat=,lstart=", "-p", strconv.Itoa(pid)).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", os.ErrProcessDone
	}
	if err != nil {
		return "", err
	}
	state, began, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if state == "" || strings.HasPrefix(state, "Z") {
		return "", os.ErrProcessDone
	}
	return strings.TrimSpace(began), nil
}
