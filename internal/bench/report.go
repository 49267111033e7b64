package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Folder is where results and plots lie, beside the page.
const Folder = "performance"

// pageFile is the page's name.
const pageFile = "performance.md"

// Files of results in a folder.
const (
	relayFile = "relay.json"
	pathFile  = "path.json"
	soakFile  = "soak.json"
)

// SaveRelay writes the results below dir, for WriteReport.
func SaveRelay(dir string, r RelayResults) error {
	return writeResults(filepath.Join(dir, Folder), relayFile, r)
}

// SavePath writes the results below dir, for WriteReport.
func SavePath(dir string, r PathResults) error {
	return writeResults(filepath.Join(dir, Folder), pathFile, r)
}

// SaveSoak writes the results below dir, for WriteReport.
func SaveSoak(dir string, r SoakResults) error {
	return writeResults(filepath.Join(dir, Folder), soakFile, r)
}

// WriteReport makes dir/performance.md and the plots in dir/performance from the results there, and returns the files it wrote. The same results give
// the same bytes. It needs at least one kind of results.
func WriteReport(dir string) ([]string, error) {
	files, err := Report(dir)
	if err != nil {
		return nil, err
	}
	names := sortedKeys(files)
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// Report is what WriteReport writes, by file name.
func Report(dir string) (map[string][]byte, error) {
	f, err := find(filepath.Join(dir, Folder))
	if err != nil {
		return nil, err
	}
	if f == (found{}) {
		return nil, fmt.Errorf("no results in %s: make some with `walpost bench relay --out %s`", filepath.Join(dir, Folder), dir)
	}
	files := make(map[string][]byte)
	var p page
	p.add("# Performance\n\n<!-- Made by `walpost bench report` from the measurements in performance/. Do not edit. -->\n")
	if f.relay != nil {
		p.add("%s\n", lead(f))
		p.relay(*f.relay, files)
	}
	if f.soak != nil {
		p.soak(*f.soak, files)
	}
	if f.path != nil {
		p.path(*f.path, files)
	}
	p.method(f)
	files[pageFile] = []byte(p.String())
	return files, nil
}

// found are the results of a folder, each nil when there are none.
type found struct {
	relay *RelayResults
	path  *PathResults
	soak  *SoakResults
}

func find(dir string) (f found, err error) {
	for _, file := range []struct {
		name    string
		results any
	}{{relayFile, &f.relay}, {pathFile, &f.path}, {soakFile, &f.soak}} {
		if err := readResults(dir, file.name, file.results); err != nil && !errors.Is(err, os.ErrNotExist) {
			return found{}, err
		}
	}
	return f, nil
}

// runOf is one of the runs that the results are of.
type runOf struct {
	what string
	About
	contestants []Contestant
}

// runs are in the order in which they are told.
func (f found) runs() []runOf {
	var list []runOf
	if f.relay != nil {
		list = append(list, runOf{"relay", f.relay.About, f.relay.Contestants})
	}
	if f.soak != nil {
		list = append(list, runOf{"soak", f.soak.About, f.soak.Contestants})
	}
	if f.path != nil {
		list = append(list, runOf{"path", f.path.About, f.path.Contestants})
	}
	return list
}

// contestants are those of all runs, each once.
func (f found) contestants() []Contestant {
	var list []Contestant
	for _, run := range f.runs() {
		for _, c := range run.contestants {
			if !slices.ContainsFunc(list, func(have Contestant) bool { return have.Name == c.Name }) {
				list = append(list, c)
			}
		}
	}
	return ordered(list)
}
