// Package ident quotes the names of tables.
//
// It is no SQL builder and resolves nothing: whether the table exists is for PostgreSQL to say.
package ident

import (
	"fmt"
	"strings"
)

// Table quotes "name" or "schema.name" so that it is taken literally, whatever characters and capitals it has.
func Table(name string) (string, error) {
	parts := strings.Split(name, ".")
	for i, part := range parts {
		if part == "" || len(parts) > 2 || strings.Contains(part, "\x00") {
			return "", fmt.Errorf("outbox table %q is neither a name nor schema.name", name)
		}
		parts[i] = `"` + strings.ReplaceAll(part, `"`, `""`) + `"`
	}
	return strings.Join(parts, "."), nil
}
