package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKafkaHasAFolderOfItsOwnThatIsRemoved(t *testing.T) {
	mine, kafkas := filepath.Join(t.TempDir(), "mine"), t.TempDir()
	f, err := makeFolders(mine, kafkas)
	if err != nil {
		t.Fatalf("makeFolders() = %v, want no error", err)
	}
	if !strings.HasPrefix(f.kafka, kafkas) || !strings.HasPrefix(f.path("postgres"), mine) {
		t.Errorf("Kafka in %s and PostgreSQL in %s, want them below %s and %s", f.kafka, f.path("postgres"), kafkas, mine)
	}
	if got := f.disks(t.Context()); got.Kafka != got.Postgres || got.Kafka == "unknown" {
		t.Errorf("disks = %+v, want the one of the temporary folder twice", got)
	}
	if err := f.remove(); err != nil {
		t.Errorf("remove() = %v, want no error", err)
	}
	if left, err := os.ReadDir(kafkas); len(left) > 0 || err != nil {
		t.Errorf("left in %s = %v, %v, want nothing", kafkas, left, err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Errorf("the folder that was named: %v, want it kept", err)
	}
}

func TestFoldersThatCannotServe(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(full, "missing")
	for name, dirs := range map[string][2]string{full: {full, ""}, missing: {"", missing}} {
		if _, err := makeFolders(dirs[0], dirs[1]); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("makeFolders(%q, %q) = %v, want an error that names %s", dirs[0], dirs[1], err, name)
		}
	}
}
