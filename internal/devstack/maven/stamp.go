package maven

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// stamp is the file that Resolve writes last: the size of every file that belongs to the folder, by its path in it.
const stamp = "complete.json"

// complete returns the files of the folder, sorted, or an error when it has no stamp or not every file of it.
func complete(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, stamp))
	if err != nil {
		return nil, err
	}
	var sizes map[string]int64
	if err := json.Unmarshal(text, &sizes); err != nil {
		return nil, err
	}
	for name, size := range sizes {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if info.Size() != size {
			return nil, fmt.Errorf("%s has %d bytes instead of %d", name, info.Size(), size)
		}
	}
	return slices.Sorted(maps.Keys(sizes)), nil
}

// seal compares what Maven left in the folder with the sums, unless there are none, and writes the stamp.
func seal(work string, sums []byte) error {
	want := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(sums)); lines.Scan(); {
		sum, name, _ := strings.Cut(lines.Text(), "  ")
		want[name] = sum
	}
	sizes := map[string]int64{}
	err := walk(work, func(name string, size int64, sum string) error {
		if sums != nil && sum != want[name] {
			return fmt.Errorf("%s is not the file it should be: its SHA-256 is %s, not %q", name, sum, want[name])
		}
		delete(want, name)
		sizes[name] = size
		return nil
	})
	if err != nil {
		return err
	}
	if len(want) > 0 {
		return fmt.Errorf("these files did not come: %s", strings.Join(slices.Sorted(maps.Keys(want)), ", "))
	}
	text, err := json.MarshalIndent(sizes, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(work, stamp), text, 0o644)
}

// walk calls visit for every file that Maven left in the folder, with its path in it.
func walk(work string, visit func(name string, size int64, sum string) error) error {
	for _, part := range []string{"lib", "plugins"} {
		err := filepath.WalkDir(filepath.Join(work, part), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(work, path)
			if err != nil {
				return err
			}
			size, sum, err := hash(path)
			if err != nil {
				return err
			}
			return visit(filepath.ToSlash(name), size, sum)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func hash(path string) (size int64, sum string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	h := sha256.New()
	size, err = io.Copy(h, file)
	return size, fmt.Sprintf("%x", h.Sum(nil)), errors.Join(err, file.Close())
}
