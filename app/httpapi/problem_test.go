package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/httpapi"
)

func TestErrorsOfTheServiceBecomeProblems(t *testing.T) {
	t.Parallel()
	const secret = "postgres://walpost:hunter2@10.0.0.7/walpost"
	for name, tc := range map[string]struct {
		err               error
		status            int
		slug, retry, want string
	}{
		"an internal error":       {errors.New("boom"), 500, "internal", "", "ERROR"},
		"too much work":           {app.ErrBusy, 503, "busy", "2", "DEBUG"},
		"no database":             {app.ErrUnavailable, 503, "unavailable", "5", "WARN"},
		"no time left":            {context.DeadlineExceeded, 503, "unavailable", "5", "WARN"},
		"a client that has left":  {context.Canceled, 503, "busy", "2", "DEBUG"},
		"an id nobody was given":  {app.ErrNotFound, 404, "unknown-notification", "", "DEBUG"},
		"both at once, the first": {errors.Join(app.ErrUnavailable, errors.New("boom")), 503, "unavailable", "5", "WARN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, newStub(t, fmt.Errorf("connect to %s: %w", secret, tc.err)), httpapi.Config{})
			for _, got := range []answer{
				server.register(goodBody),
				server.do("GET", "/api/v1/notifications/0d2e8a9c-3f1b-4c55-9a0e-6f6f1f4d9a31", ""),
			} {
				p := problem(t, got, tc.status, tc.slug)
				if got.header.Get("Retry-After") != tc.retry || p.Detail != nil {
					t.Errorf("Retry-After = %q, detail = %q, want %q and none", got.header.Get("Retry-After"), detail(p), tc.retry)
				}
				if whole := fmt.Sprint(got.header) + got.body; strings.Contains(whole, "hunter2") || strings.Contains(whole, "boom") {
					t.Errorf("the answer tells an internal error: %s", whole)
				}
			}
			server.srv.Close()
			log := server.log.String()
			if strings.Count(log, `"level":"`+tc.want+`"`) != 2 || !strings.Contains(log, "hunter2") || strings.Contains(log, "this-sample-password") {
				t.Errorf("log = %s, want two lines of level %s with the error, without the body", log, tc.want)
			}
		})
	}
}

// panicky is a Service with a broken invariant.
type panicky struct{ httpapi.Service }

func (panicky) Register(context.Context, string, string) (app.NotificationID, error) {
	panic("secret state")
}

func TestPanicBecomesAProblem(t *testing.T) {
	t.Parallel()
	server := serve(t, panicky{}, httpapi.Config{})
	got := server.do("POST", "/api/v1/users", goodBody, "Content-Type", "application/json", "X-Request-ID", "the-request")
	problem(t, got, 500, "internal")
	if strings.Contains(got.body, "secret") {
		t.Errorf("the answer tells the panic: %s", got.body)
	}
	server.srv.Close()
	if log := server.log.String(); !strings.Contains(log, "secret state") || !strings.Contains(log, "problem_test.go") || !strings.Contains(log, "the-request") {
		t.Errorf("log = %s, want the panic, where it happened and the request's id", log)
	}
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	server := serve(t, newStub(t, nil), httpapi.Config{})
	for name, tc := range map[string]struct {
		in   string
		kept bool
	}{
		"an acceptable one is kept":    {"checkout-4711_a.B", true},
		"128 bytes are kept":           {strings.Repeat("i", 128), true},
		"129 bytes are replaced":       {strings.Repeat("i", 129), false},
		"none is made up":              {"", false},
		"spaces are replaced":          {"a b", false},
		"an attack is replaced":        {"<script>", false},
		"other alphabets are replaced": {"ид", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := server.do("GET", "/nothing", "", "X-Request-ID", tc.in).header.Get("X-Request-ID")
			if (got == tc.in) != tc.kept || !regexp.MustCompile(`^[A-Za-z0-9._-]{10,128}$`).MatchString(got) {
				t.Errorf("X-Request-ID of %q = %q, kept should be %v", tc.in, got, tc.kept)
			}
		})
	}
}

// Each problem's type is the address of a heading in docs/api/problems.md, and each heading is the slug of a problem.
func TestProblemsAreDocumented(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/api/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	inCode := submatches(`problem\{"([a-z-]+)", [0-9]{3}`, string(source))
	inPage := submatches(`(?m)^## ([a-z-]+)$`, string(page))
	if diff := cmp.Diff(inCode, inPage); diff != "" {
		t.Errorf("slugs in problem.go and headings in problems.md (-code +page):\n%s", diff)
	}
}

func submatches(pattern, text string) map[string]bool {
	all := make(map[string]bool)
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all[m[1]] = true
	}
	return all
}
