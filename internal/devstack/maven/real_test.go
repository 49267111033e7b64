package maven_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/devstack/maven"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

var update = flag.Bool("update", false, "write sums.txt from what Maven brings")

func TestTheRealFilesAreAllThere(t *testing.T) {
	t.Parallel()
	first := stacktest.Artifacts(t)
	begin := time.Now()
	cfg := maven.Config{Dir: filepath.Dir(filepath.Dir(first.Plugins)), Maven: "/no/such/mvn"}
	a, err := maven.Resolve(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Resolve() from the cache = %v", err)
	}
	cached := time.Since(begin)
	fmt.Fprintf(os.Stdout, "counts: stack files resolved in %.1f s, then from the cache in %.2f s, %d jars on the class path\n", stacktest.Took().Seconds(), cached.Seconds(), len(a.ClassPath))
	for _, jar := range []string{"kafka_2.13-" + a.Kafka + ".jar", "connect-runtime-" + a.Kafka + ".jar", "log4j-slf4j-impl-"} {
		if !slices.ContainsFunc(a.ClassPath, func(path string) bool { return strings.HasPrefix(filepath.Base(path), jar) }) {
			t.Errorf("the class path lacks %s", jar)
		}
	}
	connector := "debezium-connector-postgres"
	if _, err := os.Stat(filepath.Join(a.Plugins, connector, connector+"-"+a.Debezium+".jar")); err != nil {
		t.Errorf("plugin: %v", err)
	}
}

// With -update it accepts whatever Maven brings and writes sums.txt: after a change of pom.xml, once the versions have been looked at.
func TestAColdFetchBringsEverything(t *testing.T) {
	if os.Getenv("WALPOST_TEST_FETCH") == "" && os.Getenv("CI") != "true" && !*update {
		t.Skip("downloads 95 MB: set WALPOST_TEST_FETCH=1")
	}
	t.Setenv("MAVEN_OPTS", "-Dmaven.repo.local="+t.TempDir())
	var progress bytes.Buffer
	cfg := maven.Config{Dir: t.TempDir(), Progress: &progress}
	if *update {
		writeSums(t, cfg)
		return
	}
	begin := time.Now()
	a, err := maven.Resolve(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Resolve() = %v", err)
	}
	fmt.Fprintf(os.Stdout, "counts: stack files fetched from nothing in %.1f s\n", time.Since(begin).Seconds())
	if want := len(stacktest.Artifacts(t).ClassPath); len(a.ClassPath) != want {
		t.Errorf("a cold fetch brought %d jars, want %d", len(a.ClassPath), want)
	}
	if lines := regexp.MustCompile(`(?m)^  \d+ files, \d+ MB, \d+ s$`).FindAllString(progress.String(), -1); len(lines) == 0 {
		t.Errorf("progress = %q, want lines with files and size", progress.String())
	}
}

func writeSums(t *testing.T, cfg maven.Config) {
	t.Helper()
	a, err := maven.ResolveWith(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	var sums bytes.Buffer
	err = maven.Walk(filepath.Dir(a.Plugins), func(name string, _ int64, sum string) error {
		_, err := fmt.Fprintf(&sums, "%s  %s\n", sum, name)
		return err
	})
	if err := errors.Join(err, os.WriteFile("sums.txt", sums.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestThePomPinsEveryVersionAndNamesNoHost(t *testing.T) {
	t.Parallel()
	pom, err := os.ReadFile("pom.xml")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range regexp.MustCompile(`version>([^<]*)</\S*version>`).FindAllSubmatch(pom, -1) {
		if !regexp.MustCompile(`^(\d+(\.\d+)*(\.Final)?|\$\{\w+\.version\})$`).Match(version[1]) {
			t.Errorf("version %q is not a pinned one", version[1])
		}
	}
	if bytes.Contains(pom, []byte("<repositor")) || bytes.Contains(pom, []byte("epositories>")) {
		t.Error("pom.xml names a repository: that is for the user's own Maven configuration")
	}
}
