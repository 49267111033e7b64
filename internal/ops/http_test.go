package ops_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/walpost/walpost/internal/ops"
)

func newOps(t testing.TB) *ops.Ops {
	t.Helper()
	log, err := ops.NewLogger(t.Output(), "debug", "text")
	if err != nil {
		t.Fatal(err)
	}
	return ops.New(log)
}

func get(h http.Handler, path, accept, host string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Accept", accept)
	r.Host = host
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHealthIsShownAsJSONAndAsText(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	o.Health.Register("database", func(context.Context) error { return nil })
	o.Health.Register("kafka", func(context.Context) error { return errors.New("refused\x1b[2J") })
	o.Health.SetState("relay", "retrying")
	for _, tc := range []struct {
		path, accept string
		code         int
		want         string
	}{
		{"/livez", "*/*", 200, `{"status":"ok","checks":[{"name":"loops","status":"ok"}]}` + "\n"},
		{"/livez", "text/plain", 200, "ok\nloops ok\n"},
		{"/readyz", "application/json", 503, `{"status":"error","checks":[{"name":"database","status":"ok"},{"name":"kafka","status":"error","error":"refused\u001b[2J"}],"states":{"relay":"retrying"}}` + "\n"},
		{"/readyz", "text/plain", 503, "error\ndatabase ok\nkafka error: refused<U+001B>[2J\nrelay retrying\n"},
		{"/healthz", "text/plain", 503, "error\nloops ok\ndatabase ok\nkafka error: refused<U+001B>[2J\nrelay retrying\n"},
	} {
		got := get(o.Handler(), tc.path, tc.accept, "127.0.0.1:9464")
		if got.Code != tc.code || got.Body.String() != tc.want {
			t.Errorf("GET %s (%s) = %d %s, want %d %s", tc.path, tc.accept, got.Code, got.Body, tc.code, tc.want)
		}
	}
}

func TestALoopThatStandsStillFailsLivezAndHealthz(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	_, stop := o.Health.Loop("relay", -time.Second)
	defer stop()
	for path, code := range map[string]int{"/livez": 503, "/healthz": 503, "/readyz": 200} {
		if got := get(o.Handler(), path, "*/*", "localhost"); got.Code != code {
			t.Errorf("GET %s = %d, want %d", path, got.Code, code)
		}
	}
}

func TestWhatElseTheListenerShows(t *testing.T) {
	t.Parallel()
	h := newOps(t).Handler()
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/version":             {200, `"go_version":"go1.`},
		"/metrics":             {200, "walpost_build_info{"},
		"/debug/pprof/":        {200, "goroutine"},
		"/debug/pprof/heap":    {200, ""},
		"/debug/pprof/cmdline": {404, ""}, // it would show the flags
		"/":                    {404, ""},
	} {
		got := get(h, path, "*/*", "127.0.0.1:9464")
		if got.Code != want.code || !strings.Contains(got.Body.String(), want.text) {
			t.Errorf("GET %s = %d, want %d with %q in it", path, got.Code, want.code, want.text)
		}
	}
}

func TestAForeignNameForThisMachineIsRefused(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	for host, code := range map[string]int{
		"127.0.0.1:9464": 200, "localhost": 200, "[::1]:9464": 200, "[::1]": 200, "127.0.0.1": 200,
		"evil.example:9464": 421, "evil.example": 421, "localhost.evil.example": 421, "": 421, "10.0.0.1": 421,
	} {
		if got := get(o.Handler(), "/livez", "*/*", host); got.Code != code {
			t.Errorf("GET /livez of host %q = %d, want %d", host, got.Code, code)
		}
	}
	o.Public = true
	if got := get(o.Handler(), "/livez", "*/*", "ops.example"); got.Code != 200 {
		t.Errorf("GET /livez of a public address = %d, want 200", got.Code)
	}
}

func TestServingEndsWithTheContextAndLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	entered, release := make(chan struct{}), make(chan struct{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		_, _ = io.WriteString(w, "finished")
	})}
	ended := make(chan error, 1)
	go func() { ended <- ops.ServeHTTP(ctx, server, listener, 10*time.Second) }()

	answer := make(chan string, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + listener.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(response.Body)
		answer <- string(body)
	}()
	<-entered
	cancel()
	close(release)
	if got := <-answer; got != "finished" {
		t.Errorf("request in flight got %q, want it finished", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("ServeHTTP = %v, want nil", err)
	}
}

func TestARequestThatDoesNotEndIsCutWhenTheDrainIsOver(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	entered := make(chan struct{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})}
	ended := make(chan error, 1)
	go func() { ended <- ops.ServeHTTP(ctx, server, listener, time.Millisecond) }()
	cut := make(chan error, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		_, err := client.Get("http://" + listener.Addr().String()) //nolint:bodyclose // there is no response
		cut <- err
	}()
	<-entered
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ServeHTTP = %v, want nil", err)
	}
	if err := <-cut; err == nil {
		t.Error("the request got an answer, want it cut")
	}
}

func TestMetricNamesAreWellFormed(t *testing.T) {
	t.Parallel()
	o := newOps(t)
	o.Health.Register("database", func(context.Context) error { return nil })
	problems, err := testutil.GatherAndLint(o.Registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("metric %s: %s", p.Metric, p.Text)
	}
	if got, err := testutil.GatherAndCount(o.Registry, "walpost_build_info", "walpost_health"); err != nil || got != 2 {
		t.Errorf("walpost_build_info and walpost_health: %d metrics, %v, want 2", got, err)
	}
}
