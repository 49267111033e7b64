package debezium_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/debezium"
)

func TestAnAddressThatIsNoneIsRefusedWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "127.0.0.1:8083", "ftp://x", "http://", "http://user:hunter2@%zz"} {
		_, err := debezium.NewClient(address, debezium.ClientConfig{})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("NewClient(%q) = %v, want an error without the password", address, err)
		}
	}
	if _, err := debezium.NewClient("http://x", debezium.ClientConfig{Poll: -1}); err == nil {
		t.Error("NewClient with a negative duration = nil, want an error")
	}
}

func TestNobodyAtTheAddress(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	client, err := debezium.NewClient("http://me:hunter2@"+address, debezium.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Status(t.Context(), "outbox")
	if !errors.Is(err, debezium.ErrUnreachable) {
		t.Fatalf("Status(outbox) = %v, want ErrUnreachable", err)
	}
	for _, want := range []string{address, "connection refused", "walpost stack up"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Status(outbox) = %q, want it to say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Status(outbox) = %q, which tells the password", err)
	}
}

func TestAWorkerThatDoesNotAnswerInTime(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hanging:
		case <-r.Context().Done():
		}
	}))
	transport := &http.Transport{}
	t.Cleanup(func() { close(hanging); transport.CloseIdleConnections(); server.Close() })
	client, err := debezium.NewClient(server.URL, debezium.ClientConfig{
		HTTP: &http.Client{Transport: transport}, RequestTimeout: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context(), "outbox"); !errors.Is(err, debezium.ErrUnreachable) {
		t.Errorf("Status(outbox) = %v, want ErrUnreachable", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Status(ctx, "outbox"); !errors.Is(err, context.Canceled) || errors.Is(err, debezium.ErrUnreachable) {
		t.Errorf("Status(outbox) of a caller who gave up = %v, want context.Canceled alone", err)
	}
}

func TestUserAndNameAreSentAsTheyAre(t *testing.T) {
	t.Parallel()
	type seen struct{ Path, User, Password string }
	requests := make(chan seen, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		requests <- seen{r.URL.EscapedPath(), user, password}
		_, _ = w.Write([]byte(`{}`)) // the client reports what goes wrong
	}))
	transport := &http.Transport{}
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	client, err := debezium.NewClient(strings.Replace(server.URL, "//", "//me:hunter2@", 1)+"/below/", debezium.ClientConfig{
		HTTP: &http.Client{Transport: transport},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Status(t.Context(), "a b/c?"); err != nil {
		t.Fatalf("Status(a b/c?) = %v, want no error", err)
	}
	want := seen{"/below/connectors/a%20b%2Fc%3F/status", "me", "hunter2"}
	if diff := cmp.Diff(want, <-requests); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

func TestARequestIsRepeatedWhileTheWorkersAreNotReady(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]answer{
		"rebalancing": rebalancing, "starting": starting,
		"rebalancing, as said to a reader": {http.StatusInternalServerError, `{"error_code":500,"message":"Request cannot be completed because a rebalance is expected"}`},
		"no session key yet":               {http.StatusServiceUnavailable, `{"message":"still starting up"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorker(t).on(getStatus, first, first, state("RUNNING", "RUNNING", ""))
				start := time.Now()
				got, err := w.client(debezium.ClientConfig{}).Status(t.Context(), "outbox")
				if err != nil || !got.Running() {
					t.Errorf("Status(outbox) = %v, %v, want running", got, err)
				}
				if took := time.Since(start); took != time.Second {
					t.Errorf("Status(outbox) took %v, want two pauses of 500ms", took)
				}
			})
		})
	}
}

func TestARebalanceWithoutEndIsAConflict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorker(t).on(getStatus, rebalancing)
		start := time.Now()
		_, err := w.client(debezium.ClientConfig{RetryFor: 10 * time.Second}).Status(t.Context(), "outbox")
		if !errors.Is(err, debezium.ErrConflict) || errors.Is(err, debezium.ErrNotFound) {
			t.Errorf("Status(outbox) = %v, want ErrConflict", err)
		}
		if took := time.Since(start); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("Status(outbox) gave up after %v, want 10s", took)
		}
	})
}

func TestAnswersThatAreNotAsExpected(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer answer
		is     error
		says   string
	}{
		"no such connector":            {notFound, debezium.ErrNotFound, "Connector outbox not found"},
		"an error of Kafka Connect's":  {answer{http.StatusInternalServerError, `{"error_code":500,"message":"Request timed out"}`}, nil, "Request timed out"},
		"an error of something else's": {answer{http.StatusBadGateway, "<html>\n  bad gateway</html>"}, nil, `"<html> bad gateway</html>"`},
		"a page instead of an answer":  {answer{http.StatusOK, "<html>"}, nil, "is http://connect.example.net:8083 its address?"},
		"an answer of another form":    {answer{http.StatusOK, "[1]"}, nil, "not Kafka Connect's"},
		"nothing that may be said":     {answer{http.StatusForbidden, ""}, nil, "403"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t).on(getStatus, tc.answer).on(getConfig, notFound)
			_, err := w.client(debezium.ClientConfig{}).Status(t.Context(), "outbox")
			if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Status(outbox) = %v, want an error that says %q", err, tc.says)
			}
			var response *debezium.ResponseError
			if tc.answer.status != http.StatusOK && (!errors.As(err, &response) || response.Status != tc.answer.status) {
				t.Errorf("Status(outbox) = %#v, want a ResponseError of status %d", err, tc.answer.status)
			}
		})
	}
}
