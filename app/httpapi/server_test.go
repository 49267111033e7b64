package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/app/httpapi"
)

const cutOffWait = 10 * time.Second

func TestNewServerSetsEveryLimit(t *testing.T) {
	t.Parallel()
	s := httpapi.NewServer(http.NotFoundHandler())
	got := []any{s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout, s.IdleTimeout, s.MaxHeaderBytes}
	want := []any{5 * time.Second, 10 * time.Second, 15 * time.Second, time.Minute, 16384}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("limits of NewServer (-want +got):\n%s", diff)
	}
}

// dial connects to the server; every read ends within cutOffWait.
func dial(t *testing.T, url string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(cutOffWait)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	t.Parallel()
	hasty := func(s *http.Server) { s.ReadHeaderTimeout = 100 * time.Millisecond }
	conn := dial(t, serve(t, newStub(t, nil), httpapi.Config{}, hasty).url)
	if _, err := io.WriteString(conn, "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(conn); err != nil {
		t.Errorf("reading from a server that was sent half a header = %q, %v, want the end within %s", rest, err, cutOffWait)
	}
}

func TestSlowBodyIsCutOff(t *testing.T) {
	t.Parallel()
	hasty := func(s *http.Server) { s.ReadTimeout = 200 * time.Millisecond }
	conn := dial(t, serve(t, newStub(t, nil), httpapi.Config{}, hasty).url)
	head := "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 60\r\n\r\n"
	if _, err := io.WriteString(conn, head+`{"email":"ada@`); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(conn)
	resp, err := http.ReadResponse(from, nil)
	if err != nil {
		t.Fatalf("reading the answer to half a body = %v, want 408 within %s", err, cutOffWait)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	problem(t, answer{resp.StatusCode, resp.Header, string(body)}, 408, "request-timeout")
	if rest, err := io.ReadAll(from); err != nil || !resp.Close {
		t.Errorf("after the answer: close announced %v, then %q, %v, want the end of the connection", resp.Close, rest, err)
	}
}

func TestIdleConnectionIsClosed(t *testing.T) {
	t.Parallel()
	hasty := func(s *http.Server) { s.IdleTimeout = 100 * time.Millisecond }
	conn := dial(t, serve(t, newStub(t, nil), httpapi.Config{}, hasty).url)
	if _, err := io.WriteString(conn, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 404 ") {
		t.Errorf("reading the answer and on = %.40q, %v, want 404 and the end within %s", got, err, cutOffWait)
	}
}

func TestLargeHeaderIsRefused(t *testing.T) {
	t.Parallel()
	server := serve(t, newStub(t, nil), httpapi.Config{})
	if got := server.do("GET", "/docs", "", "X-Large", strings.Repeat("x", 32<<10)); got.status != 431 {
		t.Errorf("GET with 32 kB of header = %d, want 431", got.status)
	}
}

// A body is cut at its limit while it is being read, whatever its declared length.
func TestEndlessBodyIsRefused(t *testing.T) {
	t.Parallel()
	conn := dial(t, serve(t, newStub(t, nil), httpapi.Config{}).url)
	head := "POST /api/v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	go func() {
		_, _ = io.WriteString(conn, head)
		for chunk := strings.Repeat(" ", 1024); ; {
			if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(chunk), chunk); err != nil {
				return // the server has had enough, or the test has ended
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("reading the answer to an endless body = %v", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("answer to an endless body = %d, want 413", resp.StatusCode)
	}
}
