package httpapi_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/httpapi"
	"github.com/walpost/walpost/internal/generated/api_models"
)

// Whatever is sent, the answer is 202 or a problem, and 202 only for a body that every reader of JSON reads as the same
// registration: two members, each once, in Unicode.
func FuzzRegisterUser(f *testing.F) {
	for _, seed := range []string{
		goodBody, `{"email":"ada@example.com","email":"b@example.com","password":"this-sample-password"}`, `null`, `{}`, ` [1]`, `{"a":`,
		`{"\u0065mail":"ada@example.com","password":"\ud83d\ude00this-sample-password"}`, `{"email":"\ud83d","password":"\\u"}`,
		`{"EMAIL":1,"":{},"password":null}`, goodBody + "x", "\xff", "\ufeff{}", `{"email":"a","password":"\`,
	} {
		f.Add(seed)
	}
	rules, err := app.New(nil, app.Config{})
	if err != nil {
		f.Fatal(err)
	}
	h := httpapi.New(&stub{rules: rules}, httpapi.Config{})
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/users", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 202 {
			var p api_models.Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || w.Code != 400 && w.Code != 413 || p.Detail == nil {
				t.Fatalf("POST %q = %d %s, want a problem 400 or 413 with a detail", body, w.Code, w.Body)
			}
			return
		}
		var members map[string]string
		if err := json.Unmarshal([]byte(body), &members); err != nil || len(members) != 2 || !utf8.ValidString(body) {
			t.Fatalf("POST %q = 202, but it reads as %v, %v", body, members, err)
		}
		if _, err := app.ParseEmail(members["email"]); err != nil || utf8.RuneCountInString(members["password"]) < 15 {
			t.Errorf("POST %q = 202, but its members are %q", body, members)
		}
	})
}
