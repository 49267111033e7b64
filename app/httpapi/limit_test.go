package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walpost/walpost/app/httpapi"
)

// post sends a registration straight to a handler, as the peer, and returns status and Retry-After.
func post(t *testing.T, h http.Handler, peer, email string, forwarded ...string) (int, string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/users", strings.NewReader(`{"email":"`+email+`","password":"this-sample-password"}`))
	r.Header.Set("Content-Type", "application/json")
	r.RemoteAddr = peer
	for _, f := range forwarded {
		r.Header.Add("X-Forwarded-For", f)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code, w.Header().Get("Retry-After")
}

// The clock is virtual: waiting costs nothing, and the figures are exact.
func TestClientLimitRefillsWithTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := httpapi.New(newStub(t, nil), httpapi.Config{ClientLimit: httpapi.Limit{PerSecond: 0.5, Burst: 3}})
		for i := range 3 {
			if status, _ := post(t, h, "192.0.2.1:1000", "ada@example.com"); status != 202 {
				t.Fatalf("registration %d = %d, want 202 within the burst", i+1, status)
			}
		}
		for range 2 { // a refusal takes no token
			if status, retry := post(t, h, "192.0.2.1:2000", "ada@example.com"); status != 429 || retry != "2" {
				t.Errorf("registration beyond the burst = %d, Retry-After %q, want 429 and 2", status, retry)
			}
		}
		if status, _ := post(t, h, "192.0.2.2:1000", "ada@example.com"); status != 202 {
			t.Errorf("registration of another client = %d, want 202", status)
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // the clock of the bubble is virtual
		if status, _ := post(t, h, "192.0.2.1:3000", "ada@example.com"); status != 202 {
			t.Errorf("registration after Retry-After = %d, want 202", status)
		}
	})
}

func TestRecipientLimit(t *testing.T) {
	t.Parallel()
	h := httpapi.New(newStub(t, nil), httpapi.Config{RecipientLimit: httpapi.Limit{PerSecond: 1.0 / 60, Burst: 1}})
	for _, step := range []struct {
		email  string
		status int
	}{
		{"ada@example.com", 202},
		{"ada@EXAMPLE.com", 429}, // the same mailbox
		{"grace@example.com", 202},
		{"nobody", 400}, // no mailbox, no limit
		{"nobody", 400},
	} {
		if status, _ := post(t, h, "192.0.2.1:1000", step.email); status != step.status {
			t.Errorf("registration of %s = %d, want %d", step.email, status, step.status)
		}
	}
}

func TestNoLimitIsTheDefault(t *testing.T) {
	t.Parallel()
	h := httpapi.New(newStub(t, nil), httpapi.Config{})
	for i := range 50 {
		if status, _ := post(t, h, "192.0.2.1:1000", "ada@example.com"); status != 202 {
			t.Fatalf("registration %d = %d, want 202", i+1, status)
		}
	}
}

// Each case makes two registrations where one is allowed a client: the second passes only if it counts as another client's.
func TestClientsAreToldApart(t *testing.T) {
	t.Parallel()
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	type from struct {
		peer      string
		forwarded []string
	}
	for name, tc := range map[string]struct {
		first, second from
		same          bool
	}{
		"two IPv4 addresses":                            {from{"192.0.2.1:1", nil}, from{"192.0.2.2:1", nil}, false},
		"one IPv4 address, also written as IPv6":        {from{"192.0.2.1:1", nil}, from{"[::ffff:192.0.2.1]:1", nil}, true},
		"two addresses of one IPv6 network":             {from{"[2001:db8:0:1::1]:1", nil}, from{"[2001:db8:0:1:ffff::2]:1", nil}, true},
		"two IPv6 networks":                             {from{"[2001:db8:0:1::1]:1", nil}, from{"[2001:db8:0:2::1]:1", nil}, false},
		"a stranger who claims to forward":              {from{"192.0.2.1:1", []string{"198.51.100.1"}}, from{"192.0.2.1:1", []string{"198.51.100.2"}}, true},
		"two clients behind a proxy":                    {from{"10.0.0.1:1", []string{"198.51.100.1"}}, from{"10.0.0.1:1", []string{"198.51.100.2"}}, false},
		"one client behind two proxies":                 {from{"10.0.0.1:1", []string{"198.51.100.1"}}, from{"10.0.0.2:1", []string{"198.51.100.1"}}, true},
		"a chain of proxies":                            {from{"10.0.0.1:1", []string{"198.51.100.1, 10.0.0.9"}}, from{"[fd00::1]:1", []string{"198.51.100.2", "10.0.0.9"}}, false},
		"a forged hop before the real one":              {from{"10.0.0.1:1", []string{"203.0.113.1, 198.51.100.1"}}, from{"10.0.0.1:1", []string{"203.0.113.2, 198.51.100.1"}}, true},
		"a hop that is no address":                      {from{"10.0.0.1:1", []string{"198.51.100.1, unknown"}}, from{"10.0.0.1:1", []string{"198.51.100.2, unknown"}}, true},
		"a proxy that forwards for nobody":              {from{"10.0.0.1:1", nil}, from{"10.0.0.1:1", []string{""}}, true},
		"peers without an address, such as a Unix path": {from{"@", nil}, from{"@", nil}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := httpapi.New(newStub(t, nil), httpapi.Config{ClientLimit: httpapi.Limit{PerSecond: 0.001}, TrustedProxies: proxies})
			if status, _ := post(t, h, tc.first.peer, "ada@example.com", tc.first.forwarded...); status != 202 {
				t.Fatalf("first registration = %d, want 202", status)
			}
			want := 202
			if tc.same {
				want = 429
			}
			if status, _ := post(t, h, tc.second.peer, "ada@example.com", tc.second.forwarded...); status != want {
				t.Errorf("second registration = %d, want %d", status, want)
			}
		})
	}
}

// The map of buckets is bounded: after 10,000 other clients the first is forgotten, and one that keeps coming is not.
func TestClientLimitForgetsWhoWasNotSeenForLongest(t *testing.T) {
	t.Parallel()
	h := httpapi.New(newStub(t, nil), httpapi.Config{ClientLimit: httpapi.Limit{PerSecond: 0.001}})
	bad := func(peer string) int { // a request that is counted and costs no hash
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/users", nil)
		r.RemoteAddr = peer
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	const rare, regular = "192.0.2.1:1", "192.0.2.2:1"
	if got := []int{bad(rare), bad(regular), bad(rare)}; got[0] != 415 || got[1] != 415 || got[2] != 429 {
		t.Fatalf("first requests = %v, want 415, 415, 429", got)
	}
	for i := range 10_000 {
		if i == 5_000 {
			bad(regular)
		}
		bad(fmt.Sprintf("[2001:db8:%x::1]:1", i))
	}
	if forgotten, kept := bad(rare), bad(regular); forgotten != 415 || kept != 429 {
		t.Errorf("after 10,000 other clients: the rare one %d, the regular one %d, want 415 and 429", forgotten, kept)
	}
}
