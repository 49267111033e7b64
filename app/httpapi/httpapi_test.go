package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/httpapi"
	"github.com/walpost/walpost/internal/generated/api_models"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const goodBody = `{"email":"ada@example.com","password":"this-sample-password"}`

// stub is a Service with the rules of the real one, without its work; err, if set, is what every call returns.
type stub struct {
	err   error
	rules *app.Service
}

func newStub(t *testing.T, err error) *stub {
	t.Helper()
	rules, newErr := app.New(nil, app.Config{})
	if newErr != nil {
		t.Fatalf("app.New = %v", newErr)
	}
	return &stub{err: err, rules: rules}
}

func (s *stub) Register(ctx context.Context, email, password string) (app.NotificationID, error) {
	if s.err != nil {
		return app.NotificationID{}, s.err
	}
	// For a caller who has left the service checks the rules and then stops, before it hashes.
	left, leave := context.WithCancel(ctx)
	leave()
	if _, err := s.rules.Register(left, email, password); !errors.Is(err, context.Canceled) {
		return app.NotificationID{}, err
	}
	return app.NotificationID{UUID: uuid.New()}, nil
}

func (s *stub) Notification(_ context.Context, id app.NotificationID) (app.Notification, error) {
	if s.err != nil {
		return app.Notification{}, s.err
	}
	return app.Notification{ID: id, State: app.StatePending}, nil
}

// listener is a real server in front of a stub.
type listener struct {
	t   *testing.T
	url string
	log *bytes.Buffer // read it after Close
	srv *httptest.Server
}

func serve(t *testing.T, service httpapi.Service, cfg httpapi.Config, adjust ...func(*http.Server)) *listener {
	t.Helper()
	a := &listener{t: t, log: new(bytes.Buffer)}
	cfg.Logger = slog.New(slog.NewJSONHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a.srv = httptest.NewUnstartedServer(nil)
	a.srv.Config = httpapi.NewServer(httpapi.New(service, cfg))
	for _, f := range adjust {
		f(a.srv.Config)
	}
	a.srv.Start()
	a.url = a.srv.URL
	t.Cleanup(a.srv.Close)
	return a
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a *listener) do(method, path, body string, header ...string) answer {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := a.srv.Client().Transport.RoundTrip(req) // follows no redirect
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatalf("%s %s: read the answer: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func (a *listener) register(body string) answer {
	a.t.Helper()
	return a.do("POST", "/api/v1/users", body, "Content-Type", "application/json")
}

// problem checks that an answer is a problem document of the status and slug, with the headers of every answer.
func problem(t *testing.T, got answer, status int, slug string) api_models.Problem {
	t.Helper()
	var p api_models.Problem
	dec := json.NewDecoder(strings.NewReader(got.body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		t.Fatalf("the answer %d %q is not a problem document: %v", got.status, got.body, err)
	}
	contentType := got.header.Get("Content-Type")
	if got.status != status || p.Status != status || !strings.HasSuffix(p.Type, "/docs/api/problems.md#"+slug) || contentType != "application/problem+json" {
		t.Errorf("answer = %d %s %s, want %d application/problem+json with the type %s", got.status, contentType, got.body, status, slug)
	}
	if p.Title == "" || got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("X-Request-Id") == "" ||
		!strings.HasPrefix(got.header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("answer %s with header %v lacks a title, nosniff, a policy or a request id", got.body, got.header)
	}
	return p
}

// detail is the sentence that says what was wrong, "" when there is none.
func detail(p api_models.Problem) string {
	if p.Detail == nil {
		return ""
	}
	return *p.Detail
}

func TestRegisterUser(t *testing.T) {
	t.Parallel()
	got := serve(t, newStub(t, nil), httpapi.Config{}).register(goodBody)
	var accepted struct {
		ID uuid.UUID `json:"notification_id"`
	}
	if err := json.Unmarshal([]byte(got.body), &accepted); err != nil || got.status != 202 || accepted.ID == uuid.Nil {
		t.Errorf("POST /api/v1/users = %d %s, want 202 with a notification_id", got.status, got.body)
	}
	if want := "/api/v1/notifications/" + accepted.ID.String(); got.header.Get("Location") != want {
		t.Errorf("Location = %q, want %q", got.header.Get("Location"), want)
	}
	if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers = %v, want application/json that is not stored", got.header)
	}
}
