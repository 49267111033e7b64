package app_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/app"
)

// The answer to a registration must not tell whether the address is known: not by status, header or member, and not by the
// time it takes. Both are asked for in turn, so that other load on the machine meets both.
func TestKnownAndUnknownAddressesCannotBeToldApart(t *testing.T) {
	const pairs = 40
	s := serve(t, setting{app: app.Config{HashConcurrency: 1}})
	s.registered("known@example.com")
	var known, unknown []time.Duration
	for i := range pairs {
		a, took := s.timed("known@example.com")
		known = append(known, took)
		b, took := s.timed(fmt.Sprintf("stranger-%d@example.com", i))
		unknown = append(unknown, took)
		if diff := cmp.Diff(shape(t, a), shape(t, b)); diff != "" {
			t.Fatalf("answers (-known +unknown):\n%s", diff)
		}
	}
	slices.Sort(known)
	slices.Sort(unknown)
	k, u := known[pairs/2], unknown[pairs/2]
	t.Logf("median of %d: known %s, unknown %s; fastest: %s, %s", pairs, k, u, known[0], unknown[0])
	// Without a hash for known addresses the ratio is above five: a generous factor still finds every such mistake.
	if ratio := float64(max(k, u)) / float64(min(k, u)); ratio > 1.5 {
		t.Errorf("medians of known and unknown addresses: %s and %s, a factor of %.2f, want below 1.5", k, u, ratio)
	}
}

func (s *server) timed(email string) (answer, time.Duration) {
	s.t.Helper()
	begin := time.Now()
	got := s.post(`{"email":"` + email + `","password":"this-sample-password"}`)
	return got, time.Since(begin)
}

// shape is an answer without what differs between any two: the values of ids, and the time.
func shape(t *testing.T, got answer) map[string]any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		t.Fatalf("answer %q: %v", got.body, err)
	}
	header := got.header.Clone()
	for name, prefix := range map[string]int{"Date": 0, "X-Request-Id": 0, "Location": len("/api/v1/notifications/")} {
		header.Set(name, header.Get(name)[:prefix])
	}
	return map[string]any{"status": got.status, "header": header, "body": masked(body), "size": len(got.body)}
}

// What can be read about a notification must not tell either, at any point of its way.
func TestNotificationsOfBothKindsLookAlike(t *testing.T) {
	t.Parallel()
	s := serve(t, setting{})
	welcome, known := s.registered("ada@example.com"), s.registered("ada@example.com")
	for _, sql := range []string{
		`update notifications set created_at = now()`, // one time for both, whose length may differ otherwise
		`update notifications set state = 'FAILED', failed_at = now(), failure = 'refused'`,
		`update notifications set state = 'SENT', sent_at = now(), failed_at = null, failure = null`,
	} {
		s.exec(sql)
		if diff := cmp.Diff(shapeOfNotification(t, s.get(welcome)), shapeOfNotification(t, s.get(known))); diff != "" {
			t.Errorf("notifications after %q (-welcome +known):\n%s", sql, diff)
		}
	}
}

func shapeOfNotification(t *testing.T, got answer) map[string]any {
	t.Helper()
	got.header.Set("Location", "/api/v1/notifications/") // a registration has one
	return shape(t, got)
}
