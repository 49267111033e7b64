package connect_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/devstack/child"
	"github.com/walpost/walpost/internal/devstack/childtest"
	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

func TestAWorkerKnowsDebeziumsPlugins(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	begin := time.Now()
	w := start(t, cfg)
	took := time.Since(begin)
	rss := stacktest.ResidentMiB(t, w.PID())
	if limit := cfg.HeapMiB + 250; rss > limit {
		t.Errorf("the worker takes %d MiB after its start, want at most %d", rss, limit)
	}
	fmt.Fprintf(os.Stdout, "counts: Kafka Connect start %.1f s, %d MiB resident with a heap of at most %d MiB\n", took.Seconds(), rss, cfg.HeapMiB)

	if body := request(t, w, "GET", "/", nil); !strings.Contains(body, `"version":"`+cfg.Artifacts.Kafka+`"`) {
		t.Errorf("GET / = %s, want version %s", body, cfg.Artifacts.Kafka)
	}
	plugins := request(t, w, "GET", "/connector-plugins?connectorsOnly=false", nil)
	for _, class := range []string{connect.Connector, "io.debezium.transforms.outbox.EventRouter", "io.debezium.transforms.ExtractNewRecordState"} {
		if want := fmt.Sprintf(`{"class":%q,`, class); !strings.Contains(plugins, want) {
			t.Errorf("GET /connector-plugins lacks %s: %s", class, plugins)
		}
	}
}

func TestSecretsAreReadFromTheirFolderAlone(t *testing.T) {
	t.Parallel()
	w := start(t, config(t))
	outside := filepath.Join(filepath.Dir(w.Secrets()), "outside.properties")
	for _, file := range []string{filepath.Join(w.Secrets(), "db.properties"), outside} {
		if err := os.WriteFile(file, []byte("user=ada\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{filepath.Join(w.Secrets(), "db.properties"): `"value":"ada"`, outside: `"value":"${file:`} {
		got := request(t, w, "PUT", "/connector-plugins/"+connect.Connector+"/config/validate", map[string]string{
			"connector.class": connect.Connector, "name": "${file:" + file + ":user}",
		})
		_, name, _ := strings.Cut(got, `"value":{"name":"name",`) // the one field whose value Connect repeats
		if name, _, _ = strings.Cut(name, `,"recommended_values"`); !strings.Contains(name, want) {
			t.Errorf("a name from %s = %s, want %s", file, name, want)
		}
	}
}

func TestAWorkerDiesWithItsParent(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	attach := func() (childtest.Server, error) { return connect.Attach(t.Context(), cfg.Dir) }
	childtest.DiesWithItsParent(t, 20*time.Second, attach, "worker", string(text))
}

func TestADetachedWorkerIsFoundAgain(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Detach = true
	started := start(t, cfg)
	w, err := connect.Attach(t.Context(), cfg.Dir)
	if err != nil {
		t.Fatalf("Attach() = %v", err)
	}
	if err := w.Check(t.Context()); err != nil || w.PID() != started.PID() || w.URL() != started.URL() {
		t.Errorf("Check() of process %d at %s = %v, want nil of process %d at %s", w.PID(), w.URL(), err, started.PID(), started.URL())
	}
	var running *child.RunningError
	if _, err := connect.Start(t.Context(), cfg); !errors.As(err, &running) {
		t.Errorf("Start() in its folder = %v, want a RunningError", err)
	}
	if err := w.Stop(t.Context()); err != nil {
		t.Errorf("Stop() = %v", err)
	}
	if _, err := connect.Attach(t.Context(), cfg.Dir); !errors.Is(err, child.ErrNotRunning) {
		t.Errorf("Attach() after Stop = %v, want ErrNotRunning", err)
	}
}

func TestAWorkerThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	for _, tt := range []struct {
		name  string
		spoil func(*connect.Config)
		want  string
	}{
		{"a port that is taken", func(c *connect.Config) { c.Addr = silent.Addr().String() }, "start Connect: listen tcp " + silent.Addr().String() + ": bind: address already in use"},
		{"a Kafka that is not there", func(c *connect.Config) { c.Brokers = []string{"127.0.0.1:1"} }, "start Connect: no Kafka answers: dial tcp 127.0.0.1:1: connect: connection refused"},
		{"no Kafka", func(c *connect.Config) { c.Brokers = nil }, "start Connect: no Kafka answers: no broker is named"},
		{
			"a Kafka that does not answer", func(c *connect.Config) {
				c.Brokers = []string{silent.Addr().String()}
				c.Settings["default.api.timeout.ms"], c.Settings["request.timeout.ms"] = "2000", "1000"
			},
			"Connect ended while starting: ERROR AbstractConnectCli: Stopping due to error",
		},
		{"a setting that Connect refuses", func(c *connect.Config) { c.Settings["offset.flush.interval.ms"] = "none" }, "Invalid value none for configuration offset.flush.interval.ms"},
		{"an address that other machines reach", func(c *connect.Config) { c.Addr = "0.0.0.0:8083" }, "start Connect: address 0.0.0.0:8083: want a port of 127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t)
			tt.spoil(&cfg)
			w, err := connect.Start(t.Context(), cfg)
			if err == nil {
				w.Kill()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Start() = %v, want %s", err, tt.want)
			}
		})
	}
}

func parent(text string) {
	var cfg connect.Config
	err := json.Unmarshal([]byte(text), &cfg)
	if err == nil {
		var w *connect.Worker
		if w, err = connect.Start(context.Background(), cfg); err == nil {
			fmt.Fprintln(os.Stdout, "up")
			<-w.Exited()
		}
	}
	fmt.Fprintln(os.Stdout, err)
}
