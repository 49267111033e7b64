package ops_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/walpost/walpost/internal/ops"
)

// hostile is text that would clear a terminal, forge a line, and turn the writing direction.
const hostile = "a\x1b[2Jb\r\nINF forged\u202ec\u009b31m\xff"

func TestLogLinesForPeopleDoNotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "color"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			log, err := ops.NewLogger(&out, "info", format)
			if err != nil {
				t.Fatal(err)
			}
			log.Info(hostile, "text", hostile, "error", errors.New(hostile), "any", struct{ S string }{hostile}, hostile, "key",
				slog.Group("group", "inner", hostile), "list", []string{hostile}, "bytes", []byte(hostile))
			log.With("text", hostile).WithGroup("group").Info("message", "text", hostile)

			for line := range strings.Lines(out.String()) {
				if !strings.Contains(line, "INF") || strings.HasPrefix(line, "INF") {
					t.Errorf("format %s: a forged line: %q", format, line)
				}
				rest := strings.TrimSuffix(line, "\n")
				if format == "color" {
					rest = withoutTint(rest)
				}
				if i := strings.IndexFunc(rest, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }); i >= 0 {
					t.Errorf("format %s: character %q reaches the terminal: %q", format, rest[i], line)
				}
			}
			if got := strings.Count(out.String(), "\n"); got != 2 {
				t.Errorf("format %s: %d lines for two records: %q", format, got, out.String())
			}
			if !strings.Contains(out.String(), "<U+001B>[2J") {
				t.Errorf("format %s: the character is not shown: %q", format, out.String())
			}
		})
	}
}

// withoutTint removes the colours that tint itself writes.
func withoutTint(line string) string {
	for _, code := range []string{"\x1b[0m", "\x1b[2m", "\x1b[22m", "\x1b[91m", "\x1b[92m", "\x1b[93m", "\x1b[2;91m"} {
		line = strings.ReplaceAll(line, code, "")
	}
	return line
}

func TestTheTextFormatHasNoColour(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := ops.NewLogger(&out, "debug", "text")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("one")
	log.Error("two", "error", errors.New("broken"))
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("text has colours: %q", out.String())
	}
}

func TestOffATerminalLogsAreJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := ops.NewLogger(&out, "warn", "auto")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("below the level")
	log.Warn("seen", "text", hostile)
	var record struct{ Level, Msg, Text string }
	if err := json.Unmarshal(out.Bytes(), &record); err != nil {
		t.Fatalf("not one line of JSON: %v: %s", err, out.String())
	}
	if record.Level != "WARN" || record.Msg != "seen" || strings.ContainsAny(out.String(), "\x1b\r") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("log line = %q", out.String())
	}
}

func TestADurationIsWrittenWithItsUnit(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, err := ops.NewLogger(&out, "info", "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("later", "retry_in", 1500*time.Millisecond)
	if got := out.String(); !strings.Contains(got, `"retry_in":"1.5s"`) {
		t.Errorf("line = %s, want retry_in of 1.5s", got)
	}
}

func TestUnknownLevelsAndFormatsAreRefused(t *testing.T) {
	t.Parallel()
	for _, tc := range [][2]string{{"loud", "json"}, {"info", "xml"}} {
		if _, err := ops.NewLogger(&bytes.Buffer{}, tc[0], tc[1]); err == nil {
			t.Errorf("NewLogger(%q, %q) = nil, want an error", tc[0], tc[1])
		}
	}
}

func TestPrintable(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain":          "plain",
		"Grüße, 世界 ☃":    "Grüße, 世界 ☃",
		"tab\tnewline\n": "tab<U+0009>newline<U+000A>",
		"\x1b[31m":       "<U+001B>[31m",
		"\u202eevil":     "<U+202E>evil",
		"\u2028":         "<U+2028>",
		"\xff":           "<U+FFFD>",
	} {
		if got := ops.Printable(text); got != want {
			t.Errorf("Printable(%q) = %q, want %q", text, got, want)
		}
	}
}
