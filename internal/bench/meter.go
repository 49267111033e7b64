package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// samplePeriod is short enough to see the last of a process that ends, and costs a thousandth of a core.
	samplePeriod = 100 * time.Millisecond

	ticksPerSecond = 100 // USER_HZ, the same on every Linux
)

// meter watches processes through /proc. On other systems it sees nothing and every Use is zero.
type meter struct {
	mu      sync.Mutex // protects all below
	watched []watched
	ticks   map[string]map[int]int64 // by process name and id; what it had used when last seen
	peak    map[string]float64
}

type watched struct {
	name string
	pids func(context.Context) []int
}

// usage is what the processes, and the machine, had used at a moment.
type usage struct {
	ticks   map[string]int64
	machine processors
}

func newMeter() *meter {
	m := &meter{ticks: make(map[string]map[int]int64), peak: make(map[string]float64)}
	m.watch(ProcessBench, func(context.Context) []int { return []int{os.Getpid()} })
	return m
}

// watch adds processes. pids is asked at each sample, so that a process may come late or be replaced.
func (m *meter) watch(name string, pids func(context.Context) []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watched = append(m.watched, watched{name, pids})
	m.ticks[name] = make(map[int]int64)
}

// start samples until stop is called, which waits for the last sample.
func (m *meter) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (m *meter) run(ctx context.Context) {
	ticker := time.NewTicker(samplePeriod)
	defer ticker.Stop()
	for {
		m.mark(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// mark samples now.
func (m *meter) mark(ctx context.Context) usage {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := usage{ticks: make(map[string]int64), machine: processorTicks()}
	for _, w := range m.watched {
		resident := 0.0
		for _, pid := range w.pids(ctx) {
			if ticks, ok := processTicks(pid); ok {
				m.ticks[w.name][pid] = ticks
			}
			resident += residentMiB(pid)
		}
		m.peak[w.name] = max(m.peak[w.name], resident)
		for _, ticks := range m.ticks[w.name] {
			at.ticks[w.name] += ticks
		}
	}
	return at
}

// between is what the processes used from one mark to another.
func (m *meter) between(from, to usage) []Use {
	m.mu.Lock()
	defer m.mu.Unlock()
	var uses []Use
	other := to.machine.used - from.machine.used
	for _, w := range m.watched {
		ticks := to.ticks[w.name] - from.ticks[w.name]
		other -= ticks
		uses = append(uses, Use{w.name, float64(ticks) / ticksPerSecond, m.peak[w.name]})
	}
	return append(uses,
		Use{Process: ProcessOther, CPUSeconds: float64(max(other, 0)) / ticksPerSecond},
		Use{Process: ProcessStolen, CPUSeconds: float64(to.machine.stolen-from.machine.stolen) / ticksPerSecond})
}

// processTicks reads user and system time. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html: fields 14 and 15; the name, field 2, may hold
// anything and ends with the last parenthesis.
func processTicks(pid int) (int64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, false
	}
	user, userErr := strconv.ParseInt(fields[11], 10, 64)
	system, systemErr := strconv.ParseInt(fields[12], 10, 64)
	return user + system, userErr == nil && systemErr == nil
}

func residentMiB(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseFloat(fields[1], 64) // not a number: 0
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// processors is what became of the processors' time.
type processors struct {
	used   int64 // by anything that runs on this machine
	stolen int64 // by the host, for others, while something here wanted to run
}

func processorTicks() processors {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return processors{}
	}
	return parseProcessors(string(text))
}

// parseProcessors reads the first line, https://man7.org/linux/man-pages/man5/proc_stat.5.html: user, nice, system, idle, iowait, irq, softirq, steal.
func parseProcessors(stat string) (p processors) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return processors{}
	}
	for _, i := range []int{1, 2, 3, 6, 7} {
		p.used += parseTicks(fields[i])
	}
	p.stolen = parseTicks(fields[8])
	return p
}

func parseTicks(field string) int64 {
	n, _ := strconv.ParseInt(field, 10, 64) // not a number: 0
	return n
}

// children are the processes that a process started itself.
func children(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var pids []int
	for field := range strings.FieldsSeq(string(text)) {
		if child, err := strconv.Atoi(field); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}
