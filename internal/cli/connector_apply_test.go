package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/walpost/walpost/internal/pgtest"
)

// connectWorker is a worker of Kafka Connect with room for connector walpost, which does nothing but be in a state.
type connectWorker struct {
	t   *testing.T
	url string

	mu       sync.Mutex        // protects what follows
	config   map[string]string // nil: there is no connector
	state    string
	offset   int // that it remembers, an LSN; 0: none
	changes  []string
	outdated bool   // older than 3.7
	cut      string // the request that it fails
}

func startConnectWorker(t *testing.T, w *connectWorker) *connectWorker {
	t.Helper()
	w.t = t
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func (w *connectWorker) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	request := req.Method + " " + strings.TrimPrefix(req.URL.Path, "/connectors/walpost")
	validates := strings.HasSuffix(request, "/validate")
	if req.Method != http.MethodGet && !validates {
		w.changes = append(w.changes, request)
	}
	code, body := http.StatusOK, any(struct{}{})
	switch {
	case request == w.cut:
		code, body = http.StatusInternalServerError, map[string]any{"message": "cut off"}
	case validates, request == "POST /connectors" && w.create(req):
	case request == "POST /connectors":
		code, body = http.StatusInternalServerError, map[string]any{"message": `Unrecognized field "initial_state" (class X), not marked as ignorable`}
	case request == "PUT /config":
		if w.config == nil {
			w.state = "RUNNING"
		}
		w.config = nil // decoded anew, not merged
		w.decode(req, &w.config)
	case w.config == nil:
		code, body = http.StatusNotFound, map[string]any{"message": "Connector walpost not found"}
	case request == "PUT /resume":
		w.state = "RUNNING"
	case request == "DELETE /offsets":
		w.offset = 0
	default:
		body = w.show(request)
	}
	rw.WriteHeader(code)
	if err := json.NewEncoder(rw).Encode(body); err != nil {
		w.t.Error(err)
	}
}

func (w *connectWorker) decode(req *http.Request, into any) {
	if err := json.NewDecoder(req.Body).Decode(into); err != nil {
		w.t.Errorf("%s %s: %v", req.Method, req.URL, err)
	}
}

func (w *connectWorker) create(req *http.Request) bool {
	var wanted struct {
		Config map[string]string `json:"config"`
		State  string            `json:"initial_state"`
	}
	w.decode(req, &wanted)
	if !w.outdated {
		w.config, w.state = wanted.Config, wanted.State
	}
	return !w.outdated
}

// show answers what reads.
func (w *connectWorker) show(request string) any {
	type object = map[string]any
	tasks := []object{}
	switch {
	case request == "GET /config":
		return w.config
	case request == "GET /offsets" && w.offset > 0:
		return object{"offsets": []object{{"partition": object{}, "offset": object{"lsn": w.offset}}}}
	case request == "GET /offsets":
		return object{"offsets": []object{}}
	case w.state != "RUNNING":
	case request == "GET /tasks":
		return []object{{"config": w.config}}
	default:
		tasks = append(tasks, object{"id": 0, "state": w.state})
	}
	if request == "GET /tasks" {
		return tasks
	}
	return object{"name": "walpost", "connector": object{"state": w.state}, "tasks": tasks}
}

// asked are the requests since the last call that change something.
func (w *connectWorker) asked() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	changes := strings.Join(w.changes, ", ")
	w.changes = nil
	return changes
}

// A position that Kafka Connect remembers is held against the slot before anything begins, of a connector that is not there as of one that is stopped.
func TestAConnectorGoesOnWhereItsSlotStands(t *testing.T) {
	t.Parallel()
	url := pgtest.StartServer(t).URL(t)
	ok(t, "migrate", "up", "--database-url", url)
	ok(t, "slot", "create", "--database-url", url)
	of := func(slot string) map[string]string { return map[string]string{"name": "walpost", "slot.name": slot} }
	unfinished := of("other")
	unfinished["walpost.apply"] = "unfinished"
	const behind, ahead = 1, 1 << 60
	const note = "slot walpost has been read by another up to "
	for _, tc := range []struct {
		name   string
		worker *connectWorker
		says   string // in a note; empty: no note
		asks   string
	}{
		{"deleted, and read by another since", &connectWorker{offset: behind}, note, "POST /connectors, DELETE /offsets, PUT /config, PUT /resume"},
		{"deleted, and read by nobody since", &connectWorker{offset: ahead}, "", "POST /connectors, PUT /config, PUT /resume"},
		{"never there", &connectWorker{}, "", "POST /connectors, PUT /config, PUT /resume"},
		{"on workers that cannot make it stopped", &connectWorker{offset: behind, outdated: true}, "older than 3.7", "POST /connectors, PUT /config"},
		{"stopped, and read by another since", &connectWorker{config: of("walpost"), state: "STOPPED", offset: behind}, note, "DELETE /offsets, PUT /config, PUT /resume"},
		{"stopped, and read by nobody since", &connectWorker{config: of("walpost"), state: "STOPPED", offset: ahead}, "", "PUT /config, PUT /resume"},
		// Of its old slot the connector has published less than the new one is confirmed to: what that says nothing about would be skipped.
		{"stopped on another slot", &connectWorker{config: of("other"), state: "STOPPED", offset: behind}, "", "PUT /config, PUT /resume"},
		{"made by an apply that was cut off at once", &connectWorker{config: unfinished, state: "UNASSIGNED", offset: behind}, note, "DELETE /offsets, PUT /config, PUT /resume"},
		{"made by an apply that was cut off", &connectWorker{config: unfinished, state: "STOPPED", offset: behind}, note, "DELETE /offsets, PUT /config, PUT /resume"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := startConnectWorker(t, tc.worker)
			got := walpost(t, nil, "connector", "apply", "--connect-url", w.url, "--database-url", url)
			if got.code != 0 || !strings.Contains(got.stderr, "connector walpost runs") {
				t.Errorf("connector apply = %d: %s, want it to run", got.code, got.stderr)
			}
			if noted := strings.Contains(got.stderr, "note: "); noted != (tc.says != "") || !strings.Contains(got.stderr, tc.says) {
				t.Errorf("connector apply says %s, want a note with %q", got.stderr, tc.says)
			}
			if asked := w.asked(); asked != tc.asks {
				t.Errorf("connector apply asked %s\nwant %s", asked, tc.asks)
			}
			if w.config["slot.name"] != "walpost" || w.config["walpost.apply"] != "" {
				t.Errorf("connector apply leaves %v, want slot walpost and no mark", w.config)
			}
		})
	}
}

// What comes between making a connector and letting it go on is no reason for anybody to leave it stopped.
func TestAnApplyThatIsCutOffIsFinishedByTheNext(t *testing.T) {
	t.Parallel()
	url := pgtest.StartServer(t).URL(t)
	ok(t, "migrate", "up", "--database-url", url)
	ok(t, "slot", "create", "--database-url", url)
	for _, request := range []string{"GET /offsets", "DELETE /offsets", "PUT /config"} {
		t.Run(request, func(t *testing.T) {
			t.Parallel()
			w := startConnectWorker(t, &connectWorker{offset: 1, cut: request})
			if got := walpost(t, nil, "connector", "apply", "--connect-url", w.url, "--database-url", url); got.code != 1 || !strings.Contains(got.stderr, "cut off") {
				t.Errorf("connector apply = %d: %s, want exit code 1 and why", got.code, got.stderr)
			}
			if got := walpost(t, nil, "connector", "status", "--connect-url", w.url); got.code != 3 || !strings.Contains(got.stdout, "run `walpost connector apply`") {
				t.Errorf("connector status = %d: %s, want exit code 3 and what to do", got.code, got.stdout)
			}
			w.mu.Lock()
			w.cut = ""
			w.mu.Unlock()
			s := start(t, "connector", "watch", "--apply", "--connect-url", w.url, "--database-url", url, "--ops-addr", "127.0.0.1:0", "--log-format", "json")
			s.says(t, "the connector runs")
			if code := s.drain(t); code != 0 {
				t.Errorf("connector watch: exit code = %d, want 0: %s", code, s.stderr)
			}
			if changes := strings.Split(w.asked(), ", "); slices.Contains(changes[1:], "POST /connectors") || changes[len(changes)-1] != "PUT /resume" {
				t.Errorf("the worker was asked %s, want one connector, let go on at last", fmt.Sprint(changes))
			}
		})
	}
}
