package jvm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/devstack/jvm"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPropertiesAreWrittenSoThatJavaReadsThemUnchanged(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sample.properties")
	err := jvm.WriteProperties(file, map[string]string{
		"plain":           "127.0.0.1:9092",
		"a key: or =":     "",
		"edges":           " both ",
		"comment":         "#no !no",
		"backslash":       `C:\new`,
		"several":         "one\ntwo\r\tthree",
		"not ASCII":       "ü€𝄞",
		"${file:a:b}":     "${file:a:b}",
		"control\x7f\x00": "\x1b",
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := `${file\:a\:b}=${file\:a\:b}
a\ key\:\ or\ \==
backslash=C\:\\new
comment=\#no\ \!no
control\u007f\u0000=\u001b
edges=\ both\ 
not\ ASCII=\u00fc\u20ac\ud834\udd1e
plain=127.0.0.1\:9092
several=one\u000atwo\u000d\u0009three
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("file differs (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file = %v, %v, want that nobody else reads it", info.Mode(), err)
	}
}

func TestAServersPlaceIsCheckedFirst(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, dir, addr, want string }{
		{"loopback", "/data", "127.0.0.1:9092", ""},
		{"loopback of IPv6", "/data", "[::1]:9092", ""},
		{"every address", "/data", "0.0.0.0:9092", "want a port of 127.0.0.1"},
		{"no host", "/data", ":9092", "want a port of 127.0.0.1"},
		{"a name", "/data", "localhost:9092", "want a port of 127.0.0.1"},
		{"any port", "/data", "127.0.0.1:0", "want a port of 127.0.0.1"},
		{"no port", "/data", "127.0.0.1", "missing port"},
		{"a comma in the folder", "/data,too", "127.0.0.1:9092", "without a comma"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, err := jvm.Place(tt.dir, tt.addr)
			if tt.want == "" && (err != nil || dir != tt.dir) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Place(%q, %q) = %q, %v, want %q", tt.dir, tt.addr, dir, err, tt.want)
			}
		})
	}
}

func TestWhatAProgramSaidIsInTheError(t *testing.T) {
	t.Parallel()
	err := jvm.Run(t.Context(), stacktest.Artifacts(t), t.TempDir(), "no.such.Program")
	if err == nil || !strings.Contains(err.Error(), "no.such.Program: exit status 1: ") || !strings.Contains(err.Error(), "ClassNotFoundException") {
		t.Errorf("Run(no.such.Program) = %v, want Java's words", err)
	}
}

func TestAServersFilesLieInItsFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "server")
	p, err := jvm.Start(t.Context(), jvm.Server{
		Name: "Sample", Main: "kafka.Kafka", Properties: map[string]string{"node.id": "none"}, Artifacts: stacktest.Artifacts(t),
		Dir: dir, Addr: stacktest.Addr(t), HeapMiB: 64, Options: []string{"-Xmx65m"}, Detach: true,
	})
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	t.Cleanup(p.Kill)
	if err := p.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	want := []string{"process.json", "sample.log", "sample.log4j2.properties", "sample.out", "sample.properties"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v, files differ (-want +got):\n%s", err, diff)
	}
	if !strings.Contains(p.Log(), "ConfigException") {
		t.Errorf("Log() = %q, want the program's error", p.Log())
	}
	if log, err := os.ReadFile(filepath.Join(dir, "sample.log")); err != nil || !strings.Contains(string(log), "ERROR") {
		t.Errorf("sample.log = %q, %v, want the program's log", log, err)
	}
}
