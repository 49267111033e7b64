package bench

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Machine is where a run was made, and with what.
type Machine struct {
	Cores      int     `json:"cores"`
	CPU        string  `json:"cpu"`
	MemoryGiB  float64 `json:"memory_gib"`
	System     string  `json:"system"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"`
	Walpost    string  `json:"walpost"` // version or commit
	PostgreSQL string  `json:"postgresql"`
	Kafka      string  `json:"kafka"`
	Debezium   string  `json:"debezium"`
	Java       string  `json:"java"`
}

// machine describes this one. What the system does not tell stays "unknown".
func machine(ctx context.Context, s Stack) Machine {
	memory, _ := strconv.ParseFloat(firstMatch("/proc/meminfo", `MemTotal:\s+(\d+)`), 64)
	return Machine{
		Cores:      runtime.NumCPU(),
		CPU:        cmp.Or(firstMatch("/proc/cpuinfo", `model name\s*:\s*(.+)`), runtime.GOARCH),
		MemoryGiB:  float64(int(memory/(1<<20)*10)) / 10,
		System:     cmp.Or(firstMatch("/etc/os-release", `PRETTY_NAME="?([^"\n]+)`), runtime.GOOS),
		Kernel:     cmp.Or(firstMatch("/proc/sys/kernel/osrelease", `(\S+)`), "unknown"),
		Go:         runtime.Version(),
		Walpost:    cmp.Or(s.Version, "unknown"),
		PostgreSQL: s.Postgres.Version,
		Kafka:      s.Artifacts.Kafka,
		Debezium:   s.Artifacts.Debezium,
		Java:       javaVersion(ctx, s.Artifacts.Java),
	}
}

func firstMatch(file, pattern string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	match := regexp.MustCompile(pattern).FindSubmatch(text)
	if match == nil {
		return ""
	}
	return strings.TrimSpace(string(match[1]))
}

func javaVersion(ctx context.Context, java string) string {
	out, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
	if err != nil {
		return "unknown"
	}
	match := regexp.MustCompile(`version "([^"]+)"`).FindSubmatch(out)
	if match == nil {
		return "unknown"
	}
	return string(match[1])
}

// busy is the share of the processors' time that the machine spends on whatever runs now, looked at for a moment.
func busy(ctx context.Context, look time.Duration) (float64, error) {
	before := processorTicks()
	if err := pause(ctx, look); err != nil {
		return 0, err
	}
	after := processorTicks()
	return float64(after.used+after.stolen-before.used-before.stolen) / ticksPerSecond / look.Seconds() / float64(runtime.NumCPU()), nil
}

// pause waits; it returns the cause of ctx's end when that comes first.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
