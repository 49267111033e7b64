package jvm

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"unicode/utf16"
)

// WriteProperties writes a file that java.util.Properties reads as exactly these keys and values.
// https://docs.oracle.com/en/java/javase/17/docs/api/java.base/java/util/Properties.html#load(java.io.Reader)
func WriteProperties(file string, properties map[string]string) error {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(properties)) {
		fmt.Fprintf(&text, "%s=%s\n", escape(key), escape(properties[key]))
	}
	return os.WriteFile(file, []byte(text.String()), 0o600) // Settings may hold a secret
}

// escape protects what ends a key or a value, what begins a comment, and what is not ASCII: the file's encoding depends on who reads it.
func escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case strings.ContainsRune(` \:=#!`, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case r > ' ' && r < 0x7f:
			b.WriteRune(r)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		}
	}
	return b.String()
}
