// Command suites runs `go test` with the given arguments and says at the end which tests were left out and how to enable them.
//
// It is the test command of the Makefile, nothing a user installs. The invariant: with CI=true a test that was left out is a failure.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
)

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "run go test:", err)
		os.Exit(1)
	}
	r := newReport(os.Stdout)
	r.read(events)
	runErr := cmd.Wait()
	r.summary()
	if !r.good(runErr, os.Getenv("CI") == "true") {
		os.Exit(1)
	}
}

// good judges a run: where everything must run, a test that was left out is as bad as a failed one.
func (r *report) good(runErr error, everything bool) bool {
	return runErr == nil && r.failed == 0 && !(everything && r.skipped > 0)
}

// event is one line of `go test -json`: https://pkg.go.dev/cmd/test2json
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

type report struct {
	out                     io.Writer
	output                  map[string][]string // lines of each test, and of each package under its own name, until it ends
	leftOut                 map[string]int      // reason -> number of tests
	passed, failed, skipped int
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[string][]string{}, leftOut: map[string]int{}}
}

func (r *report) read(events io.Reader) {
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(r.out, lines.Text()) // a line of the build, not of a test
			continue
		}
		r.handle(e)
	}
}

func (r *report) handle(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		r.output[key] = append(r.output[key], e.Output)
		if strings.HasPrefix(e.Output, "counts: ") || e.Action == "build-output" {
			fmt.Fprint(r.out, e.Output) // figures that a person wants to see of a passed test as well
		}
	case "pass", "fail", "skip":
		r.end(e, r.output[key])
		delete(r.output, key)
	}
}

func (r *report) end(e event, lines []string) {
	if e.Test == "" {
		if e.Action == "fail" {
			fmt.Fprint(r.out, strings.Join(lines, ""))
		}
		if e.Action != "skip" { // skip: a package without tests
			fmt.Fprintf(r.out, "%-4s  %-60s %6.1fs\n", e.Action, e.Package, e.Elapsed)
		}
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.leftOut[reason(lines)]++
	case "fail":
		r.failed++
		fmt.Fprint(r.out, strings.Join(lines, ""))
	}
}

// reason is what a test said when it skipped itself, without the place in the source.
func reason(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			_, text, _ = strings.Cut(text, ": ")
			return strings.TrimSpace(text)
		}
	}
	return "no reason given"
}

func (r *report) summary() {
	for _, why := range slices.Sorted(maps.Keys(r.leftOut)) {
		fmt.Fprintf(r.out, "left out, %d tests: %s\n", r.leftOut[why], why)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
}
