package httpapi_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/app/httpapi"
	"github.com/walpost/walpost/docs/api"
)

func TestDescriptionAndPageAreServed(t *testing.T) {
	t.Parallel()
	server := serve(t, newStub(t, nil), httpapi.Config{})
	for path, tc := range map[string]struct{ contentType, body string }{
		"/openapi.yaml":             {"application/yaml", api.YAML()},
		"/openapi.json":             {"application/json", api.JSON()},
		"/docs/rapidoc-min.js":      {"text/javascript; charset=utf-8", api.RapiDoc()},
		"/docs/rapidoc-license.txt": {"text/plain; charset=utf-8", api.RapiDocLicense()},
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			got := server.do("GET", path, "")
			if got.status != 200 || got.header.Get("Content-Type") != tc.contentType || got.body != tc.body {
				t.Errorf("GET %s = %d %s of %d bytes, want 200 %s of %d bytes",
					path, got.status, got.header.Get("Content-Type"), len(got.body), tc.contentType, len(tc.body))
			}
			tag := got.header.Get("ETag")
			if again := server.do("GET", path, "", "If-None-Match", tag); tag == "" || again.status != 304 || again.body != "" {
				t.Errorf("GET %s with its own tag %s = %d with %d bytes, want 304 without a body", path, tag, again.status, len(again.body))
			}
			if head := server.do("HEAD", path, ""); head.status != 200 || head.body != "" {
				t.Errorf("HEAD %s = %d with %d bytes, want 200 without a body", path, head.status, len(head.body))
			}
		})
	}
}

// What the browser is allowed to do is said by the policy; that nothing more is attempted is tested in a browser.
func TestDocsPageStaysOnThisServer(t *testing.T) {
	t.Parallel()
	server := serve(t, newStub(t, nil), httpapi.Config{})
	page := server.do("GET", "/docs", "")
	for _, want := range []string{
		`load-fonts="false"`, `allow-spec-url-load="false"`, `allow-spec-file-load="false"`, `spec-url="openapi.json"`, `src="docs/rapidoc-min.js"`,
	} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if foreign := regexp.MustCompile(`(?i)(https?:)?//[a-z]|\sstyle=|<style|<script>|\son[a-z]+=`).FindString(page.body); foreign != "" {
		t.Errorf("the page contains %q: another host, inline style or inline script", foreign)
	}
	want := map[string]string{
		"/docs": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; " +
			"img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
		"/openapi.json":        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
		"/docs/rapidoc-min.js": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
		"/api/v1/users":        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
	}
	got := make(map[string]string)
	for path := range want {
		got[path] = server.do("GET", path, "").header.Get("Content-Security-Policy")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
}
