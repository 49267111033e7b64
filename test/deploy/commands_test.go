package deploy_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/walpost/walpost/internal/cli"
	"github.com/walpost/walpost/internal/config"
)

// The image's entry point is the program, so what a service runs is a command line of ours; its health check too.
func TestCommandsAndFlagsOfTheServicesExist(t *testing.T) {
	t.Parallel()
	found := 0
	for name, service := range everything(t).Services {
		if service.Image != "walpost:compose" {
			continue
		}
		lines := [][]string{service.Command}
		if check := service.HealthCheck; check != nil {
			if len(check.Test) < 2 || check.Test[0] != "CMD" || check.Test[1] != "/walpost" {
				t.Errorf("service %s is checked by %q, want the program itself: its image has nothing else", name, check.Test)
				continue
			}
			lines = append(lines, check.Test[2:])
		}
		for _, line := range lines {
			found++
			if _, err := help(t, line); err != nil {
				t.Errorf("service %s: %v", name, err)
			}
		}
	}
	if found < 10 {
		t.Errorf("found %d command lines, want at least 10: has the image another name?", found)
	}
}

func TestVariablesOfTheServicesAreSettings(t *testing.T) {
	t.Parallel()
	var known []string
	for _, option := range config.Options() {
		known = append(known, option.Variable())
	}
	for name, service := range everything(t).Services {
		for variable := range service.Environment {
			if service.Image == "walpost:compose" && !slices.Contains(known, variable) {
				t.Errorf("service %s sets %s, which no setting has", name, variable)
			}
		}
	}
}

// A server tells its health on an address of its own command.
func TestHealthIsAskedWhereTheServerTellsIt(t *testing.T) {
	t.Parallel()
	for name, service := range everything(t).Services {
		check := service.HealthCheck
		if service.Image != "walpost:compose" || check == nil || check.Test[2] != "healthcheck" {
			continue
		}
		asked, told := opsAddr(t, check.Test[2:]), opsAddr(t, service.Command)
		if asked != told {
			t.Errorf("service %s is asked for its health at %s and tells it at %s", name, asked, told)
		}
	}
}

// opsAddr is the address that the command line gives, or else the command's default, which its help shows.
func opsAddr(t *testing.T, line []string) string {
	t.Helper()
	if i := slices.Index(line, "--ops-addr"); i >= 0 {
		return line[i+1]
	}
	text, err := help(t, line)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = strings.Cut(text, "--ops-addr")
	_, text, _ = strings.Cut(text, "(default \"")
	addr, _, _ := strings.Cut(text, "\")")
	return addr
}

// help is what the program says to the command line with --help: before that it has parsed the flags, and found the command.
func help(t *testing.T, line []string) (string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := cli.Main(t.Context(), append(slices.Clone(line), "--help"), &stdout, &stderr); code != 0 {
		return "", fmt.Errorf("walpost %s --help ends with %d: %s", strings.Join(line, " "), code, stderr.String())
	}
	command := line
	if i := slices.IndexFunc(line, func(word string) bool { return strings.HasPrefix(word, "-") }); i >= 0 {
		command = line[:i]
	}
	usage := "\n  walpost " + strings.Join(command, " ") + " ["
	if !strings.Contains(stdout.String(), usage) {
		return "", fmt.Errorf("walpost has no command %q", command)
	}
	return stdout.String(), nil
}
