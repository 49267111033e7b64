package ops

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// NewLogger returns a logger that writes lines of at least the level (debug, info, warn, error) to w. The format is "json", "text" (for people, no
// colour), "color", or "auto": color when w is a terminal, else json. Lines for people show control characters, which could steer a terminal
// or forge a line, as <U+001B>.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", level)
	}
	if format == "auto" {
		format = "json"
		if IsTerminal(w) {
			format = "color"
		}
	}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least, ReplaceAttr: durationAttr})), nil
	case "text", "color":
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level: least, TimeFormat: time.TimeOnly + ".000", NoColor: format == "text", ReplaceAttr: printableAttr,
		})), nil
	default:
		return nil, fmt.Errorf("log format %q is not one of auto, json, text, color", format)
	}
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// durationAttr writes a duration with its unit, like "1.5s"; the JSON handler would write nanoseconds and not say so.
func durationAttr(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// printableAttr stands before tint, which lets escape sequences through when it may colour.
func printableAttr(_ []string, a slog.Attr) slog.Attr {
	a.Key = Printable(a.Key)
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Printable(a.Value.String()))
	case slog.KindAny:
		switch v := a.Value.Any().(type) {
		case slog.Level, *slog.Source: // tint writes them itself
		case error:
			a.Value = slog.StringValue(Printable(v.Error()))
		default:
			a.Value = slog.StringValue(Printable(fmt.Sprintf("%+v", v)))
		}
	}
	return a
}

// Printable shows every character of text that a terminal would obey instead of print as its code point: control characters, the overrides of
// writing direction, and bytes that are no UTF-8.
func Printable(text string) string {
	if strings.IndexFunc(text, unprintable) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if unprintable(r) {
			fmt.Fprintf(&b, "<%U>", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar || r == '\u2028' || r == '\u2029'
}
