package connect_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

// shared is the broker of all tests of this process; started by the first of them, stopped by TestMain.
var shared struct {
	once   sync.Once
	dir    string
	broker *kafka.Broker
	err    error
}

// TestMain runs the tests or, called with the word worker, starts a worker that should die with this process.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "worker" {
		parent(os.Args[2])
		return
	}
	code := m.Run()
	if shared.broker != nil {
		shared.broker.Kill() // its data goes too
		_ = os.RemoveAll(shared.dir)
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func broker(t *testing.T) *kafka.Broker {
	t.Helper()
	artifacts := stacktest.Artifacts(t)
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "walpost-connect-"); shared.err != nil {
			return
		}
		_, text, _ := net.SplitHostPort(stacktest.Addr(t))
		controller, _ := strconv.Atoi(text) // a port that the system gave
		shared.broker, shared.err = kafka.Start(context.Background(), kafka.Config{
			Artifacts: artifacts, Dir: shared.dir, Addr: stacktest.Addr(t), ControllerPort: controller, HeapMiB: 256,
		})
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.broker
}

var groups atomic.Int64 // numbers the groups of workers within this process

// config is that of a worker with a group of its own on the shared broker.
func config(t *testing.T) connect.Config {
	t.Helper()
	b := broker(t)
	group := fmt.Sprintf("test-%d", groups.Add(1))
	return connect.Config{
		Artifacts: stacktest.Artifacts(t), Brokers: []string{b.Addr()}, Dir: filepath.Join(t.TempDir(), "with a blank ü and #"), Addr: stacktest.Addr(t), HeapMiB: 256,
		Settings: map[string]string{
			"group.id": group, "config.storage.topic": group + "-configs", "offset.storage.topic": group + "-offsets", "status.storage.topic": group + "-status",
		},
	}
}

func start(t *testing.T, cfg connect.Config) *connect.Worker {
	t.Helper()
	w, err := connect.Start(t.Context(), cfg)
	if err != nil {
		t.Fatalf("Start() = %v", err)
	}
	t.Cleanup(w.Kill)
	return w
}

// request asks the worker's REST interface and returns the body of an answer that is none of an error.
func request(t *testing.T, w *connect.Worker, method, path string, body any) string {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, w.URL()+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		t.Fatalf("%s %s = %s, %v: %s", method, path, response.Status, err, strings.TrimSpace(string(answer)))
	}
	return string(answer)
}
