package debezium_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/walpost/walpost/debezium"
)

// answer is what a fake worker says to one request.
type answer struct {
	status int
	body   string
}

// worker is a fake worker of Kafka Connect below net/http: it knows what to answer to which request, and remembers what it was asked. Without network it
// works under synctest as well.
type worker struct {
	t *testing.T

	mu      sync.Mutex          // protects what follows
	answers map[string][]answer // "GET /path" -> one after the other; the last stays
	asked   []string            // requests other than GET
	sent    map[string]string   // the last body of each request
}

func newWorker(t *testing.T) *worker {
	return &worker{t: t, answers: map[string][]answer{}, sent: map[string]string{}}
}

// on sets the answers to a request: pairs of status and body, the last of which stays.
func (w *worker) on(request string, answers ...answer) *worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[request] = answers
	return w
}

func (w *worker) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	request := req.Method + " " + req.URL.RequestURI()
	if req.Method != http.MethodGet && !strings.HasSuffix(request, "/validate") {
		w.asked = append(w.asked, request)
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	w.sent[request] = string(body)
	next := w.answers[request]
	if len(next) == 0 {
		w.t.Errorf("the client asked %s, which this test does not expect", request)
		next = []answer{{http.StatusInternalServerError, `{"message": "unexpected"}`}}
	}
	if len(next) > 1 {
		w.answers[request] = next[1:]
	}
	return &http.Response{
		StatusCode: next[0].status, Body: io.NopCloser(strings.NewReader(next[0].body)), Header: http.Header{}, Request: req,
	}, nil
}

// body is what was sent with the last request of a kind.
func (w *worker) body(request string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[request]
}

// changed are the requests that change something, in order.
func (w *worker) changed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked
}

func (w *worker) client(cfg debezium.ClientConfig) *debezium.Client {
	w.t.Helper()
	cfg.HTTP = &http.Client{Transport: w}
	client, err := debezium.NewClient("http://connect.example.net:8083", cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

func ok(v any) answer {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return answer{http.StatusOK, string(body)}
}

var (
	accepted    = answer{http.StatusAccepted, "{}"}
	noContent   = answer{http.StatusNoContent, ""}
	notFound    = answer{http.StatusNotFound, `{"error_code":404,"message":"Connector outbox not found"}`}
	rebalancing = answer{http.StatusConflict, `{"error_code":409,"message":"Cannot complete request momentarily due to stale configuration (typically caused by a concurrent config change)"}`}
	starting    = answer{http.StatusNotFound, "<html>\n<title>Error 404 Not Found</title></html>"} // of the web server, before the resources are there
	valid       = answer{http.StatusOK, `{"name":"x","error_count":0,"configs":[]}`}
)

type object = map[string]any

// state is the status of connector outbox with one task.
func state(connector, task, trace string) answer {
	t := object{"id": 0, "state": task, "worker_id": "w:8083"}
	if trace != "" {
		t["trace"] = trace
	}
	return ok(object{
		"name": "outbox", "connector": object{"state": connector, "worker_id": "w:8083"}, "tasks": []object{t}, "type": "source",
	})
}

// stopped is the status of connector outbox after a stop.
var stopped = ok(object{"name": "outbox", "connector": object{"state": "STOPPED", "worker_id": "w:8083"}, "tasks": []object{}, "type": "source"})

// noStatus is the status of connector outbox before its first.
var noStatus = answer{http.StatusNotFound, `{"error_code":404,"message":"No status found for connector outbox"}`}

// tasks are the configurations of the tasks of connector outbox.
func tasks(configs ...map[string]string) answer {
	list := []object{}
	for i, config := range configs {
		list = append(list, object{"id": object{"connector": "outbox", "task": i}, "config": config})
	}
	return ok(list)
}

const (
	create     = "POST /connectors"
	getConfig  = "GET /connectors/outbox/config"
	putConfig  = "PUT /connectors/outbox/config"
	getStatus  = "GET /connectors/outbox/status"
	getTasks   = "GET /connectors/outbox/tasks"
	restart    = "POST /connectors/outbox/restart?includeTasks=true&onlyFailed=true"
	resume     = "PUT /connectors/outbox/resume"
	stop       = "PUT /connectors/outbox/stop"
	getOffsets = "GET /connectors/outbox/offsets"
	reset      = "DELETE /connectors/outbox/offsets"
	remove     = "DELETE /connectors/outbox"
	validation = "PUT /connector-plugins/Plugin/config/validate"

	slotTrace = "org.apache.kafka.connect.errors.ConnectException: stopped\n\tat a.b(C.java:1)\n" +
		"Caused by: org.postgresql.util.PSQLException: ERROR: replication slot \"s\" is active for PID 7\n\tat a.b(C.java:2)\n"
)

// wanted is a configuration of connector outbox, short enough to be read.
func wanted() map[string]string {
	return map[string]string{
		"name": "outbox", "connector.class": "Plugin", "slot.name": "s", "publication.name": "p", "database.dbname": "shop", "poll.interval.ms": "50",
	}
}
