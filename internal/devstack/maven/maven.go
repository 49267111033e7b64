// Package maven brings the programs of the real stack, Kafka, Kafka Connect and Debezium, onto this machine with the mvn client.
//
// It runs none of them, and it installs neither Java nor Maven. What is fetched stands in pom.xml, every version pinned; where it is fetched from is
// Maven's own configuration.
// The invariant: a folder that Resolve returned holds exactly the files of sums.txt with the content they had when the versions were chosen. An
// interrupted fetch, and one that brought anything else, leaves nothing that is taken for complete.
package maven

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

//go:embed pom.xml
var pom []byte

// sums holds the SHA-256 of every file, in the form of sha256sum. Maven alone would take a file whose checksum it could not get.
//
//go:embed sums.txt
var sums []byte

// MissingError says that Java or Maven is not on this machine, or too old.
type MissingError struct {
	Found   string // instead
	Install string // what to do
}

// Error says both in one line.
func (e *MissingError) Error() string { return e.Found + ": install " + e.Install }

// MinJava is the oldest Java that Kafka 4 runs on.
const MinJava = 17

// Config says where the files are kept and which programs are used.
type Config struct {
	Dir      string    // the cache; made when missing, shared by all projects of a user; required
	Java     string    // program; default java on PATH
	Maven    string    // program, needed only to fetch; default mvn on PATH
	Progress io.Writer // lines for a person while something is fetched; default discarded
}

// Artifacts are the files of the stack and the program that runs them.
type Artifacts struct {
	Java      string   // program
	ClassPath []string // jars of Kafka and Kafka Connect, absolute, in one fixed order
	Plugins   string   // folder with the connector plugins, for plugin.path
	Kafka     string   // version
	Debezium  string   // version
}

// UserCache is the folder in which all projects of a user keep the files: walpost in the user's cache folder.
func UserCache() (string, error) {
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "walpost"), err
}

// Resolve returns the files, fetched now when they are not all in the cache. Where Java, or Maven when it is needed, is missing or too old, the error
// is a *MissingError that says in one line what to install. Several processes may call it on one cache: one fetches, the others wait for it.
func Resolve(ctx context.Context, cfg Config) (Artifacts, error) { return resolve(ctx, cfg, sums) }

func resolve(ctx context.Context, cfg Config, sums []byte) (Artifacts, error) {
	if cfg.Java == "" {
		cfg.Java = "java"
	}
	if cfg.Maven == "" {
		cfg.Maven = "mvn"
	}
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	java, err := findJava(ctx, cfg.Java)
	if err != nil {
		return Artifacts{}, err
	}
	a := Artifacts{Java: java}
	if a.Kafka, a.Debezium, err = versions(); err != nil {
		return Artifacts{}, err
	}
	dir, err := filepath.Abs(filepath.Join(cfg.Dir, folder(sums)))
	if err != nil {
		return Artifacts{}, err
	}
	files, err := complete(dir)
	if err != nil {
		files, err = fetch(ctx, cfg, dir, sums)
	}
	if err != nil {
		return Artifacts{}, fmt.Errorf("fetch Kafka and Debezium: %w", err)
	}
	a.Plugins = filepath.Join(dir, "plugins")
	for _, file := range files {
		if filepath.Dir(file) == "lib" {
			a.ClassPath = append(a.ClassPath, filepath.Join(dir, file))
		}
	}
	return a, nil
}

// folder is the name of this set of files in the cache. Those of other versions stay: servers may run from them.
func folder(sums []byte) string {
	sum := sha256.Sum256(slices.Concat(pom, sums))
	return fmt.Sprintf("stack-%x", sum[:6])
}

func versions() (kafka, debezium string, err error) {
	var project struct {
		Kafka    string `xml:"properties>kafka.version"`
		Debezium string `xml:"properties>debezium.version"`
	}
	if err := xml.Unmarshal(pom, &project); err != nil {
		return "", "", fmt.Errorf("pom.xml: %w", err)
	}
	return project.Kafka, project.Debezium, nil
}

var javaVersion = regexp.MustCompile(`version "(?:1\.)?(\d+)[^"]*"`) // Java 8 called itself 1.8

func findJava(ctx context.Context, name string) (string, error) {
	const install = "Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)"
	java, err := exec.LookPath(name)
	if err != nil {
		return "", &MissingError{Found: "no Java on this machine", Install: install}
	}
	out, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	version := javaVersion.FindSubmatch(out)
	if err != nil || version == nil {
		return "", &MissingError{Found: java + " does not run", Install: install}
	}
	if major, _ := strconv.Atoi(string(version[1])); major < MinJava {
		return "", &MissingError{Found: fmt.Sprintf("%s is version %d", java, major), Install: install}
	}
	return filepath.Abs(java)
}

func findMaven(name string) (string, error) {
	mvn, err := exec.LookPath(name)
	if err != nil {
		return "", &MissingError{Found: "no Maven on this machine", Install: "Maven (Debian: apt-get install maven)"}
	}
	return filepath.Abs(mvn)
}
