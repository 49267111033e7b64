package httpapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"time"
)

const (
	headerRequestID   = "X-Request-ID"
	maxRequestIDBytes = 128
)

// withRequestID names every request, in the answer's header from where logs take it.
func withRequestID(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(headerRequestID)
		if !validRequestID(id) {
			id = rand.Text()
		}
		w.Header().Set(headerRequestID, id)
		next.ServeHTTP(w, r)
	})
}

// validRequestID keeps out what could confuse a log or a header.
func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestIDBytes {
		return false
	}
	for _, c := range []byte(id) {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// withHeaders sets the defences of every answer; the documentation page loosens two of them for itself.
func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// withTimeout bounds the work on a request, so that the answer is written before the server's WriteTimeout cuts it.
func withTimeout(limit time.Duration, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// withRecovery answers 500 for a panic. Handlers write their answer in one go at their end, so none has been begun.
func withRecovery(errs *errorWriter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				errs.write(w, r, fmt.Errorf("panic: %v\n%s", v, debug.Stack()))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// withRoutes answers with a problem where the mux would answer with text. A path that is not clean, such as //api, is unknown
// instead of redirected: a redirected POST would lose its body.
func withRoutes(errs *errorWriter, mux *http.ServeMux) http.Handler {
	unknown := &requestError{kind: errUnknownPath, detail: "the API is described at /docs and /openapi.json"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path.Clean(r.URL.Path) != r.URL.Path {
			errs.write(w, r, unknown)
			return
		}
		fallback, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		// The mux tells 404 from 405, and which methods are allowed, only through the answer of its own handler.
		own := &headerRecorder{header: http.Header{}}
		fallback.ServeHTTP(own, r)
		allow := own.header.Get("Allow")
		if allow == "" {
			errs.write(w, r, unknown)
			return
		}
		w.Header().Set("Allow", allow)
		errs.write(w, r, &requestError{kind: errMethod, detail: "allowed here: " + allow})
	})
}

// headerRecorder is a ResponseWriter that keeps the header alone.
type headerRecorder struct{ header http.Header }

func (h *headerRecorder) Header() http.Header         { return h.header }
func (h *headerRecorder) Write(p []byte) (int, error) { return len(p), nil }
func (h *headerRecorder) WriteHeader(int)             {}
