package main

import (
	"errors"
	"strings"
	"testing"
)

const skippedRun = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: install PostgreSQL\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"counts: 3 of 3\n"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Elapsed":1.5}
`

const failedRun = `{"Action":"output","Package":"p","Test":"TestC","Output":"    c_test.go:9: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"exit status 1\n"}
{"Action":"fail","Package":"p","Elapsed":0.1}
`

func TestReportSaysWhatWasLeftOutAndWhatFailed(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		events string
		want   []string
	}{
		"a skipped test is counted under its reason":    {skippedRun, []string{"left out, 1 tests: install PostgreSQL", "counts: 3 of 3", "pass  p", "1 passed, 0 failed, 1 skipped"}},
		"a failed test is shown with its own lines":     {failedRun, []string{"c_test.go:9: got 1, want 2", "fail  p", "0 passed, 1 failed, 0 skipped"}},
		"a line that is no event is passed on as it is": {"build failed: x\n", []string{"build failed: x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, out := read(tc.events)
			for _, want := range tc.want {
				if !strings.Contains(out, want) {
					t.Errorf("report has no %q:\n%s", want, out)
				}
			}
		})
	}
}

func TestALeftOutTestFailsWhereEverythingMustRun(t *testing.T) {
	t.Parallel()
	skipped, _ := read(skippedRun)
	failed, _ := read(failedRun)
	clean, _ := read("")
	for _, tc := range []struct {
		name       string
		r          *report
		err        error
		everything bool
		want       bool
	}{
		{"skipped, on a developer's machine", skipped, nil, false, true},
		{"skipped, in CI", skipped, nil, true, false},
		{"failed", failed, nil, false, false},
		{"go test itself failed", clean, errors.New("exit status 1"), false, false},
		{"nothing wrong, in CI", clean, nil, true, true},
	} {
		if got := tc.r.good(tc.err, tc.everything); got != tc.want {
			t.Errorf("good() when %s = %v, want %v", tc.name, got, tc.want)
		}
	}
}

func read(events string) (r *report, out string) {
	var text strings.Builder
	r = newReport(&text)
	r.read(strings.NewReader(events))
	r.summary()
	return r, text.String()
}
