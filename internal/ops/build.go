package ops

import (
	"cmp"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// Build says what this program was built from.
type Build struct {
	Version   string `json:"version"`    // of the module, "devel" when built from a working copy
	Revision  string `json:"revision"`   // commit, "unknown" when not recorded; "+dirty" when files were changed
	GoVersion string `json:"go_version"` // for example "go1.26.8"
	Platform  string `json:"platform"`   // operating system and processor
}

// ReadBuild reads what the Go linker recorded in this program.
func ReadBuild() Build {
	b := Build{GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version = info.Main.Version
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				b.Revision = s.Value + b.Revision
			case s.Key == "vcs.modified" && s.Value == "true":
				b.Revision += "+dirty"
			}
		}
	}
	if b.Version == "(devel)" {
		b.Version = ""
	}
	b.Version, b.Revision = cmp.Or(b.Version, "devel"), cmp.Or(b.Revision, "unknown")
	return b
}

func newBuildInfo() prometheus.Collector {
	b := ReadBuild()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "walpost_build_info", Help: "What the program was built from; always 1.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.GoVersion},
	}, func() float64 { return 1 })
}
