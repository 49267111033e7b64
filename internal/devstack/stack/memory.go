package stack

import (
	"fmt"
	"os"
	"strings"
)

// residentMiB is how much memory of the machine the process and its children take, 0 where the system does not tell. PostgreSQL's processes share most
// of theirs: each page counts by the share of its users (Pss), so that the sum counts it once.
// https://man7.org/linux/man-pages/man5/proc_pid_smaps.5.html
func residentMiB(pid int) int {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid)) // not told: the process alone
	kib := shareKiB(pid)
	for _, text := range strings.Fields(string(children)) {
		var child int
		if _, err := fmt.Sscan(text, &child); err == nil {
			kib += shareKiB(child)
		}
	}
	return kib >> 10
}

func shareKiB(pid int) (kib int) {
	for _, source := range [][2]string{{"smaps_rollup", "\nPss:"}, {"status", "\nVmRSS:"}} { // the first is closed to other users
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, source[0]))
		_, after, _ := strings.Cut(string(text), source[1])
		if _, err := fmt.Sscan(after, &kib); err == nil {
			return kib
		}
	}
	return 0 // it has ended meanwhile
}
