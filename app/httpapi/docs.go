package httpapi

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/walpost/walpost/docs/api"
)

// docsPage shows the description with RapiDoc. It has no script of its own and asks no other host for anything.
const docsPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>walpost API</title>
<script src="docs/rapidoc-min.js" defer></script>
</head>
<body>
<rapi-doc spec-url="openapi.json" load-fonts="false" allow-spec-url-load="false" allow-spec-file-load="false"
  allow-server-selection="false" allow-authentication="false" show-header="false" render-style="view"></rapi-doc>
<noscript>The documentation needs JavaScript. The description itself: <a href="openapi.yaml">openapi.yaml</a></noscript>
</body>
</html>
`

// docsPolicy is the strict policy with what RapiDoc needs: its script, its inline styles, the description and requests that
// the reader tries out, all from this server.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; " +
	"img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

func handleDocs(mux *http.ServeMux) {
	mux.Handle("GET /openapi.yaml", static("application/yaml", api.YAML()))
	mux.Handle("GET /openapi.json", static("application/json", api.JSON()))
	mux.Handle("GET /docs/rapidoc-min.js", static("text/javascript; charset=utf-8", api.RapiDoc()))
	mux.Handle("GET /docs/rapidoc-license.txt", static("text/plain; charset=utf-8", api.RapiDocLicense()))
	page := static("text/html; charset=utf-8", docsPage)
	mux.HandleFunc("GET /docs", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", docsPolicy)
		page.ServeHTTP(w, r)
	})
}

// static serves a text that changes with the binary only: browsers keep it and ask whether it is still the same.
func static(contentType, text string) http.Handler {
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(text)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
	})
}
