package maven_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/devstack/maven"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What stands in for mvn: it notes each run, makes two jars and a plugin, and prints what mvn prints while it downloads.
const fakeMaven = `
for arg; do case $arg in -Dstack.dir=*) dir=${arg#-Dstack.dir=};; esac; done
echo run >>"$0.runs"
mkdir -p "$dir/lib" "$dir/plugins/connector"
echo one >"$dir/lib/b.jar"; echo two >"$dir/lib/a.jar"; echo three >"$dir/plugins/connector/c.jar"
echo "Downloaded from here: there/a.jar (1.5 MB at 3 MB/s)"
`

const fakeSums = `2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806  lib/b.jar
27dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a  lib/a.jar
f6936912184481f5edd4c304ce27c5a1a827804fc7f329f43d273b8621870776  plugins/connector/c.jar
`

func TestFilesAreFetchedOnceAndTakenFromTheCacheAfterwards(t *testing.T) {
	t.Parallel()
	cfg, progress := setup(t, fakeMaven)
	first := resolve(t, cfg)
	if !strings.HasPrefix(progress.String(), "fetching Kafka and Debezium with Maven (about 95 MB, once)\n") {
		t.Errorf("progress = %q, want what is fetched and how much", progress)
	}
	var jars []string
	for _, jar := range first.ClassPath {
		jars = append(jars, filepath.Base(jar))
		if !filepath.IsAbs(jar) {
			t.Errorf("ClassPath has %q, want an absolute path", jar)
		}
	}
	if diff := cmp.Diff([]string{"a.jar", "b.jar"}, jars); diff != "" {
		t.Errorf("ClassPath differs (-want +got):\n%s", diff)
	}
	if _, err := os.Stat(filepath.Join(first.Plugins, "connector", "c.jar")); err != nil {
		t.Errorf("plugin: %v", err)
	}
	cfg.Maven = "/no/such/mvn"
	if diff := cmp.Diff(first, resolve(t, cfg)); diff != "" {
		t.Errorf("Resolve() from the cache differs (-first +second):\n%s", diff)
	}
}

func TestACacheThatLacksSomethingIsFilledAgain(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(jar string) error{
		"a file is gone":        os.Remove,
		"a file is cut short":   func(jar string) error { return os.Truncate(jar, 1) },
		"the stamp is gone":     func(jar string) error { return os.Remove(filepath.Join(jar, "..", "..", "complete.json")) },
		"the stamp is not JSON": func(jar string) error { return os.Truncate(filepath.Join(jar, "..", "..", "complete.json"), 5) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, _ := setup(t, fakeMaven)
			a := resolve(t, cfg)
			if err := spoil(a.ClassPath[0]); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(a, resolve(t, cfg)); diff != "" {
				t.Errorf("Resolve() differs (-before +after):\n%s", diff)
			}
			if text, err := os.ReadFile(a.ClassPath[0]); err != nil || string(text) != "two\n" {
				t.Errorf("the spoilt file = %q, %v, want it whole", text, err)
			}
		})
	}
}

func TestAnInterruptedFetchLeavesNothingThatCountsAsComplete(t *testing.T) {
	t.Parallel()
	half := fakeMaven + `touch "$0.half"; exec sleep 60`
	cfg, _ := setup(t, half)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := maven.ResolveWith(ctx, cfg, []byte(fakeSums))
		done <- err
	}()
	await(t, "half a fetch", func() bool {
		_, err := os.Stat(cfg.Maven + ".half")
		return err == nil
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Resolve() = %v, want the end of the context", err)
	}

	leftover := filepath.Join(cfg.Dir, ".fetch-killed") // of a process that could not tidy up
	if err := os.MkdirAll(filepath.Join(leftover, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	cfg.Maven = program(t, "mvn", fakeMaven)
	resolve(t, cfg)
	if got := runs(t, cfg.Maven); got != 1 {
		t.Errorf("Maven ran %d times after the interrupted fetch, want 1", got)
	}
	if _, err := os.Stat(leftover); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("leftover of a killed process: %v, want it gone", err)
	}
}

func TestOfSeveralAtOnceOneFetchesAndTheOthersWait(t *testing.T) {
	t.Parallel()
	cfg, _ := setup(t, `while [ ! -e "$0.go" ]; do read -t 0.01 _ </dev/zero; done`+"\n"+fakeMaven)
	second := cfg
	told := &buffer{}
	second.Progress = told
	var wg sync.WaitGroup
	for _, c := range []maven.Config{cfg, second, second} {
		wg.Go(func() {
			if _, err := maven.ResolveWith(t.Context(), c, []byte(fakeSums)); err != nil {
				t.Errorf("Resolve() = %v", err)
			}
		})
	}
	await(t, "the line of a process that waits", func() bool { return strings.Contains(told.String(), "waiting for another process") })
	if err := os.WriteFile(cfg.Maven+".go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if got := runs(t, cfg.Maven); got != 1 {
		t.Errorf("Maven ran %d times, want 1", got)
	}
}

func TestWhatIsMissingIsNamedInOneLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		spoil func(*testing.T, *maven.Config)
		want  string
	}{
		{
			"there is no Java", func(_ *testing.T, c *maven.Config) { c.Java = "no-such-java" },
			"no Java on this machine: install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)",
		},
		{
			"Java is too old", func(t *testing.T, c *maven.Config) { c.Java = java(t, "11.0.25") },
			"JAVA is version 11: install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)",
		},
		{
			"Java counts in the way of Java 8", func(t *testing.T, c *maven.Config) { c.Java = java(t, "1.8.0_412") },
			"JAVA is version 8: install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)",
		},
		{
			"java is a program that does not run", func(t *testing.T, c *maven.Config) { c.Java = program(t, "java", "exit 1") },
			"JAVA does not run: install Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)",
		},
		{
			"there is no Maven", func(_ *testing.T, c *maven.Config) { c.Maven = "no-such-mvn" },
			"fetch Kafka and Debezium: no Maven on this machine: install Maven (Debian: apt-get install maven)",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg, _ := setup(t, fakeMaven)
			tt.spoil(t, &cfg)
			_, err := maven.ResolveWith(t.Context(), cfg, []byte(fakeSums))
			var missing *maven.MissingError
			if want := strings.ReplaceAll(tt.want, "JAVA", cfg.Java); !errors.As(err, &missing) || err.Error() != want {
				t.Errorf("Resolve() = %v, want %s", err, want)
			}
		})
	}
}

func TestFilesOtherThanThePinnedOnesAreRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, change, want string }{
		{"another content", `echo spoilt >"$dir/lib/a.jar"`, "lib/a.jar is not the file it should be"},
		{"a file more", `echo more >"$dir/lib/d.jar"`, "lib/d.jar is not the file it should be"},
		{"a file less", `rm "$dir/plugins/connector/c.jar"`, "these files did not come: plugins/connector/c.jar"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg, _ := setup(t, fakeMaven+tt.change)
			for range 2 { // the second must not find the first one's files
				if _, err := maven.ResolveWith(t.Context(), cfg, []byte(fakeSums)); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Resolve() = %v, want %s", err, tt.want)
				}
			}
		})
	}
}

func TestMavensOwnComplaintIsInTheError(t *testing.T) {
	t.Parallel()
	cfg, _ := setup(t, `echo "[INFO] Scanning"; echo "[ERROR] Could not resolve kafka_2.13"; echo "[ERROR] more"; exit 1`)
	_, err := maven.ResolveWith(t.Context(), cfg, []byte(fakeSums))
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 1: Could not resolve kafka_2.13") {
		t.Errorf("Resolve() = %v, want Maven's first complaint", err)
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "*stack*")); len(left) > 0 {
		t.Errorf("the cache holds %q after a failed fetch", left)
	}
}

func setup(t *testing.T, mvn string) (maven.Config, *buffer) {
	t.Helper()
	progress := &buffer{}
	return maven.Config{Dir: filepath.Join(t.TempDir(), "cache"), Java: java(t, "17.0.15"), Maven: program(t, "mvn", mvn), Progress: progress}, progress
}

func java(t *testing.T, version string) string {
	t.Helper()
	return program(t, "java", fmt.Sprintf(`echo 'openjdk version "%s" 2025-04-15' >&2`, version))
}

func program(t *testing.T, name, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	run, err := filepath.Abs(filepath.Join("testdata", "run"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path+".sh", []byte(script), 0o600), os.Symlink(run, path)); err != nil {
		t.Fatal(err)
	}
	return path
}

func resolve(t *testing.T, cfg maven.Config) maven.Artifacts {
	t.Helper()
	a, err := maven.ResolveWith(t.Context(), cfg, []byte(fakeSums))
	if err != nil {
		t.Fatalf("Resolve() = %v", err)
	}
	return a
}

func runs(t *testing.T, mvn string) int {
	t.Helper()
	text, err := os.ReadFile(mvn + ".runs")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), "run\n")
}

func await(t *testing.T, what string, ready func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ready() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

// buffer is text that one goroutine writes and another reads.
type buffer struct {
	mu   sync.Mutex // protects text
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
