package cli_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/cli"
)

func TestMisuseIsAnsweredWithWhatToDo(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "walpost.yaml")
	if err := os.WriteFile(file, []byte("slto: orders\nconcurrency: many\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"unknown_command_near":    {"relya"},
		"unknown_command":         {"frobnicate"},
		"unknown_subcommand":      {"migrate", "upp"},
		"missing_subcommand":      {"topics"},
		"unknown_flag_near":       {"topics", "create", "--kafka-broker", "kafka:9092"},
		"unknown_flag":            {"version", "--frobnicate"},
		"flag_without_value":      {"api-server", "--addr"},
		"flag_of_wrong_type":      {"kafka-consumer", "--concurrency", "many"},
		"flag_with_wrong_value":   {"relay", "--slot", "Not-A-Slot"},
		"unknown_delivery":        {"relay", "--delivery", "at-most-once"},
		"too_many_arguments":      {"version", "now"},
		"missing_argument":        {"migrate", "sql"},
		"unknown_config_key":      {"version", "--config", "$FILE"},
		"unknown_help_topic":      {"help", "migrate", "upp"},
		"unknown_shell":           {"completion", "tcsh"},
		"migrate_down_unspecific": {"migrate", "down", "--set", "app"},
		"migrate_unknown_set":     {"migrate", "up", "--set", "apps"},
		"config_print_of_nothing": {"config", "print", "relya"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := walpost(t, nil, replaced(args, "$FILE", file)...)
			got.stderr = strings.ReplaceAll(got.stderr, file, "walpost.yaml")
			golden(t, name, "walpost "+strings.Join(replaced(args, "$FILE", "walpost.yaml"), " "), got)
			if got.code != 2 || got.stdout != "" {
				t.Errorf("exit code = %d, stdout = %q, want 2 and none", got.code, got.stdout)
			}
		})
	}
}

func replaced(args []string, old, value string) []string {
	result := make([]string, len(args))
	for i, arg := range args {
		result[i] = strings.ReplaceAll(arg, old, value)
	}
	return result
}

func TestAVariableNobodyKnowsIsNamed(t *testing.T) {
	t.Parallel()
	got := walpost(t, []string{"WALPOST_DATABSE_URL=postgres://127.0.0.1/x"}, "version")
	golden(t, "unknown_variable", "WALPOST_DATABSE_URL=postgres://127.0.0.1/x walpost version", got)
}

func TestSecretsAreMaskedWhereSettingsArePrinted(t *testing.T) {
	t.Parallel()
	got := walpost(t, []string{"DATABASE_URL=postgres://ada:planted@127.0.0.1/x", "WALPOST_SMTP_PASSWORD=planted", "WALPOST_SMTP_USERNAME=ada"}, "config", "print")
	golden(t, "config_print", "DATABASE_URL=postgres://ada:planted@127.0.0.1/x WALPOST_SMTP_PASSWORD=planted WALPOST_SMTP_USERNAME=ada walpost config print", got)
	if strings.Contains(got.stdout, "planted") {
		t.Error("config print shows a secret")
	}
}

func TestSettingsOfOneCommandHaveItsDefaults(t *testing.T) {
	t.Parallel()
	runGolden(t, "config_print_consumer", nil, "config", "print", "kafka-consumer", "--output", "yaml")
	runGolden(t, "config_print_api", nil, "config", "print", "api-server", "--output", "json")
}

func TestVersionForMachines(t *testing.T) {
	t.Parallel()
	got := ok(t, "version", "--output", "json")
	var build map[string]string
	if err := json.Unmarshal([]byte(got.stdout), &build); err != nil {
		t.Fatalf("version --output json: %v: %s", err, got.stdout)
	}
	for _, key := range []string{"version", "revision", "go_version", "platform"} {
		if build[key] == "" {
			t.Errorf("version --output json has no %s: %s", key, got.stdout)
		}
	}
}

func TestHelpIsAResult(t *testing.T) {
	t.Parallel()
	runGolden(t, "help", nil, "help")
	for _, args := range [][]string{{}, {"--help"}, {"help", "migrate", "down"}, {"migrate", "down", "--help"}} {
		if got := ok(t, args...); got.stderr != "" || !strings.Contains(got.stdout, "Usage:") {
			t.Errorf("walpost %v: stdout %q, stderr %q, want the help on stdout", args, got.stdout, got.stderr)
		}
	}
}

func TestCompletionForEachShell(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if got := ok(t, "completion", shell); !strings.Contains(got.stdout, "walpost") {
			t.Errorf("completion %s = %q, want a script", shell, got.stdout)
		}
	}
}

func TestQuietLeavesTheResult(t *testing.T) {
	t.Parallel()
	if got := ok(t, "version", "--quiet"); got.stderr != "" || got.stdout == "" {
		t.Errorf("version --quiet: stdout %q, stderr %q, want the result alone", got.stdout, got.stderr)
	}
}

// Not parallel: signals go to the process.
func TestASignalCancelsAndASecondOneEndsAtOnce(t *testing.T) {
	stderr, exited := newLines(), make(chan int, 1)
	ctx, stop := cli.Interruptible(t.Context(), stderr, func(code int) { exited <- code })
	defer stop()
	send := func(sig syscall.Signal) {
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
	}
	send(syscall.SIGTERM)
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("SIGTERM does not cancel within 10 s")
	}
	if cause := context.Cause(ctx); cause == nil || cause.Error() != "interrupted" {
		t.Errorf("cause = %v, want interrupted", cause)
	}
	send(syscall.SIGINT)
	select {
	case code := <-exited:
		if code != 130 {
			t.Errorf("exit code = %d, want 130", code)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a second signal does not end the process within 10 s")
	}
	if !strings.HasPrefix(stderr.String(), "walpost: interrupted again") {
		t.Errorf("stderr = %q, want it said", stderr)
	}
}

func TestAnInterruptedCommandHasItsOwnExitCode(t *testing.T) {
	ctx, stop := cli.Interruptible(t.Context(), newLines(), func(int) {})
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	stdout, stderr := newLines(), newLines()
	code := cli.Run(ctx, strings.NewReader(""), stdout, stderr, nil, []string{"topics", "check", "--kafka-brokers", closedPort(t)})
	if code != 130 {
		t.Errorf("exit code = %d, want 130: %s", code, stderr)
	}
}
