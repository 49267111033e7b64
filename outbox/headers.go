package outbox

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// headersText writes headers as PostgreSQL will show them, so that the length checked here is the length that the
// table checks. encoding/json would not do: it leaves no blanks and escapes more characters.
func headersText(headers map[string]string) string {
	var text strings.Builder
	text.WriteByte('{')
	for i, key := range sortedKeys(headers) {
		if i > 0 {
			text.WriteString(", ")
		}
		quote(&text, key)
		text.WriteString(": ")
		quote(&text, headers[key])
	}
	text.WriteByte('}')
	return text.String()
}

// quote writes s with the escapes of PostgreSQL's escape_json.
func quote(dst *strings.Builder, s string) {
	dst.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\':
			dst.WriteByte('\\')
			dst.WriteByte(c)
		case '\b':
			dst.WriteString(`\b`)
		case '\f':
			dst.WriteString(`\f`)
		case '\n':
			dst.WriteString(`\n`)
		case '\r':
			dst.WriteString(`\r`)
		case '\t':
			dst.WriteString(`\t`)
		default:
			if c < ' ' {
				fmt.Fprintf(dst, `\u%04x`, c)
				continue
			}
			dst.WriteByte(c)
		}
	}
	dst.WriteByte('"')
}

func sortedKeys(headers map[string]string) []string { return slices.Sorted(maps.Keys(headers)) }
