package migrations

import (
	"fmt"
	"io/fs"
	"strings"
)

// SQL returns the statements of one version, both ways, for a database administrator to read or to run by hand with
// psql. Who runs them by hand also inserts the version into the set's version table. Errors wrap ErrUnknownSet or
// ErrUnknownVersion.
func SQL(set Set, version int64) (up, down string, err error) {
	sources, err := set.sources()
	if err != nil {
		return "", "", err
	}
	for _, src := range sources {
		if src.version == version {
			text, err := fs.ReadFile(files, string(set)+"/"+src.name)
			if err != nil {
				return "", "", err
			}
			up, down = split(string(text))
			return up, down, nil
		}
	}
	return "", "", fmt.Errorf("%w: %d of %s", ErrUnknownVersion, version, set)
}

// split parts a file at goose's annotations and leaves these out.
func split(text string) (up, down string) {
	var parts [2]strings.Builder
	part := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "-- +goose Down") {
			part = 1
		}
		if !strings.HasPrefix(line, "-- +goose ") {
			parts[part].WriteString(line)
		}
	}
	return strings.TrimSpace(parts[0].String()) + "\n", strings.TrimSpace(parts[1].String()) + "\n"
}
