package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/httpapi"
	"github.com/walpost/walpost/app/postgres"
	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/outbox/outboxpgx"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// server is the whole application behind a real listener, over a database of its own.
type server struct {
	t        *testing.T
	url      string
	database string
	pool     *pgxpool.Pool
	srv      *httptest.Server
}

// setting is what a server's test may set; the zero value works.
type setting struct {
	app      app.Config
	http     httpapi.Config
	appender outboxpgx.Appender
	database string             // default: a migrated one
	adjust   func(*http.Server) // default: nothing
}

func serve(t *testing.T, s setting) *server {
	t.Helper()
	if s.database == "" {
		s.database = pgtest.Migrated(t)
	}
	pool := pgtest.Pool(t, s.database)
	service, err := app.New(postgres.New(pool, s.appender), s.app)
	if err != nil {
		t.Fatalf("app.New = %v", err)
	}
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = httpapi.NewServer(httpapi.New(service, s.http))
	if s.adjust != nil {
		s.adjust(srv.Config)
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return &server{t, srv.URL, s.database, pool, srv}
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (s *server) do(method, path, contentType, body string) answer {
	s.t.Helper()
	got, err := s.try(method, path, contentType, strings.NewReader(body))
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return got
}

// try is do for other goroutines than the test's.
func (s *server) try(method, path, contentType string, body io.Reader) (answer, error) {
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := s.srv.Client().Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(text)}, err
}

func (s *server) post(body string) answer {
	s.t.Helper()
	return s.do("POST", "/api/v1/users", "application/json", body)
}

func (s *server) get(id string) answer {
	s.t.Helper()
	return s.do("GET", "/api/v1/notifications/"+id, "", "")
}

// registered registers and returns the notification's id.
func (s *server) registered(email string) string {
	s.t.Helper()
	got := s.post(`{"email":"` + email + `","password":"this-sample-password"}`)
	var accepted struct {
		ID string `json:"notification_id"`
	}
	if err := json.Unmarshal([]byte(got.body), &accepted); err != nil || got.status != 202 {
		s.t.Fatalf("registration of %s = %d %s, want 202", email, got.status, got.body)
	}
	return accepted.ID
}

func (s *server) exec(sql string, args ...any) {
	s.t.Helper()
	if _, err := s.pool.Exec(s.t.Context(), sql, args...); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

const someBody = `{"email":"ada@example.com","password":"this-sample-password"}`

// nowhere is a database that refuses connections: port 1 is tcpmux, which nobody runs.
const nowhere = "postgres://walpost@127.0.0.1:1/walpost?sslmode=disable&connect_timeout=1"

// provocations has, for every example of an answer, a way to get it from a real server: from the one given, or, where it has to
// be set up on purpose, from another.
var provocations = map[string]func(t *testing.T, s *server) answer{
	"POST /api/v1/users 202 accepted":       func(_ *testing.T, s *server) answer { return s.post(someBody) },
	"POST /api/v1/users 400 invalid_fields": func(_ *testing.T, s *server) answer { return s.post(`{"email":"ada","password":"short"}`) },
	"POST /api/v1/users 400 unknown_field": func(_ *testing.T, s *server) answer {
		return s.post(strings.Replace(someBody, "}", `,"admin":true}`, 1))
	},
	"POST /api/v1/users 400 malformed": func(_ *testing.T, s *server) answer { return s.post(`{"email":ada@example.com}`) },
	"POST /api/v1/users 408 slow":      slowBody,
	"POST /api/v1/users 413 too_large": func(_ *testing.T, s *server) answer { return s.post(someBody + strings.Repeat(" ", 17_000)) },
	"POST /api/v1/users 415 text": func(_ *testing.T, s *server) answer {
		return s.do("POST", "/api/v1/users", "text/plain", someBody)
	},
	"POST /api/v1/users 429 client": func(t *testing.T, _ *server) answer {
		return second(serve(t, setting{http: httpapi.Config{ClientLimit: httpapi.Limit{PerSecond: 0.001}}}))
	},
	"POST /api/v1/users 429 recipient": func(t *testing.T, _ *server) answer {
		return second(serve(t, setting{http: httpapi.Config{RecipientLimit: httpapi.Limit{PerSecond: 0.001}}}))
	},
	"POST /api/v1/users 500 internal": func(t *testing.T, s *server) answer {
		return serve(t, setting{database: s.database, appender: outboxpgx.Appender{Table: "no_such_table"}}).post(someBody)
	},
	"POST /api/v1/users 503 busy": busy,
	"POST /api/v1/users 503 unavailable": func(t *testing.T, _ *server) answer {
		return serve(t, setting{database: nowhere}).post(someBody)
	},

	"GET /api/v1/notifications/{id} 200 pending": func(_ *testing.T, s *server) answer { return s.get(s.registered("ada@example.com")) },
	"GET /api/v1/notifications/{id} 200 sent": func(_ *testing.T, s *server) answer {
		id := s.registered("ada@example.com")
		s.exec(`update notifications set state = 'SENT', sent_at = now() where id = $1`, id)
		return s.get(id)
	},
	"GET /api/v1/notifications/{id} 200 failed": func(_ *testing.T, s *server) answer {
		id := s.registered("ada@example.com")
		s.exec(`update notifications set state = 'FAILED', failed_at = now(), failure = 'the mail server refused the mail (550)' where id = $1`, id)
		return s.get(id)
	},
	"GET /api/v1/notifications/{id} 400 not_a_uuid": func(_ *testing.T, s *server) answer { return s.get("4711") },
	"GET /api/v1/notifications/{id} 404 unknown":    func(_ *testing.T, s *server) answer { return s.get(uuid.NewString()) },
	"GET /api/v1/notifications/{id} 500 internal": func(t *testing.T, _ *server) answer {
		return serve(t, setting{database: pgtest.URL(t)}).get(uuid.NewString()) // no tables
	},
	"GET /api/v1/notifications/{id} 503 unavailable": func(t *testing.T, _ *server) answer {
		return serve(t, setting{database: nowhere}).get(uuid.NewString())
	},
}

// second registers twice and returns the second answer.
func second(s *server) answer {
	s.registered("ada@example.com")
	return s.post(someBody)
}

// slowBody sends a request whose body never ends and hardly begins.
func slowBody(t *testing.T, s *server) answer {
	s = serve(t, setting{database: s.database, adjust: func(srv *http.Server) { srv.ReadTimeout = 200 * time.Millisecond }})
	body, end := io.Pipe()
	defer func() { _ = end.Close() }()
	got, err := s.try("POST", "/api/v1/users", "application/json", body)
	if err != nil {
		t.Fatalf("send a slow body: %v", err)
	}
	return got
}

// busy sends more registrations at once than a server with one place to hash and one to wait can hold.
func busy(t *testing.T, s *server) answer {
	s = serve(t, setting{database: s.database, app: app.Config{HashConcurrency: 1, HashQueue: 1}})
	const crowd = 30
	answers := make(chan answer, crowd)
	for range crowd {
		go func() {
			got, err := s.try("POST", "/api/v1/users", "application/json", strings.NewReader(someBody))
			if err != nil {
				t.Errorf("register: %v", err)
			}
			answers <- got
		}()
	}
	var refused *answer
	for range crowd {
		if got := <-answers; got.status == 503 {
			refused = &got
		}
	}
	if refused == nil {
		t.Fatalf("none of %d registrations at once was refused", crowd)
	}
	return *refused
}

// What the description shows is what the server says: ids and times aside, to the letter.
func TestEveryExampleOfAnAnswerIsWhatTheServerSays(t *testing.T) {
	t.Parallel()
	doc := description(t)
	s := serve(t, setting{})
	left := make(map[string]bool)
	for key := range provocations {
		left[key] = true
	}
	for _, op := range operations(doc) {
		for status := range op.node.at(doc, "responses") {
			response := op.node.at(doc, "responses", status)
			examples := values(doc, response)
			if len(examples) == 0 {
				t.Errorf("%s %s %s has no example", op.method, op.path, status)
			}
			for name, want := range examples {
				key := fmt.Sprintf("%s %s %s %s", op.method, op.path, status, name)
				provoke, ok := provocations[key]
				if !ok {
					t.Errorf("no test gets the example %s", key)
					continue
				}
				delete(left, key)
				t.Run(key, func(t *testing.T) {
					t.Parallel()
					here := *s
					here.t = t
					compare(t, doc, response, status, want, provoke(t, &here))
				})
			}
		}
	}
	for key := range left {
		t.Errorf("the description has no example %s", key)
	}
}

func compare(t *testing.T, doc, response object, status string, want any, got answer) {
	t.Helper()
	contentType := got.header.Get("Content-Type")
	if _, ok := response.at(doc, "content")[contentType]; !ok || fmt.Sprint(got.status) != status {
		t.Errorf("answer = %d %s, want %s of a content type described", got.status, contentType, status)
	}
	var body any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		t.Fatalf("answer %q: %v", got.body, err)
	}
	if diff := cmp.Diff(masked(want), masked(body)); diff != "" {
		t.Errorf("body (-described +answered):\n%s", diff)
	}
	for name := range response.at(doc, "headers") {
		if got.header.Get(name) == "" {
			t.Errorf("the answer lacks the described header %s", name)
		}
	}
}

var (
	anyUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	anyTime = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`)
)

// masked puts the form in the place of ids and times.
func masked(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[key] = masked(value)
		}
		return out
	case string:
		if anyUUID.MatchString(v) {
			return "a UUID"
		}
		if anyTime.MatchString(v) {
			return "a time in UTC"
		}
	}
	return v
}

func TestEveryExampleOfARequestIsAccepted(t *testing.T) {
	t.Parallel()
	doc := description(t)
	s := serve(t, setting{})
	n := 0
	for _, op := range operations(doc) {
		for name, value := range values(doc, op.node.at(doc, "requestBody")) {
			body, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.do(op.method, op.path, "application/json", string(body)); got.status != 202 {
				t.Errorf("%s %s with the example %s = %d %s, want 202", op.method, op.path, name, got.status, got.body)
			}
			n++
		}
	}
	if n == 0 {
		t.Error("the description has no example of a request")
	}
}
