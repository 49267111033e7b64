package ops

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler shows /livez, /readyz, /healthz, /metrics, /version and /debug/pprof/. The first three answer 200 or 503, as JSON, or as text
// to a client that asks for text/plain.
func (o *Ops) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", o.livez)
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.HandleFunc("GET /healthz", o.healthz)
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, r *http.Request) {
		b := ReadBuild()
		write(w, r, http.StatusOK, b, fmt.Sprintf("walpost %s\nrevision %s\n%s %s\n", b.Version, b.Revision, b.GoVersion, b.Platform))
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{Registry: o.Registry}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	// Not pprof.Cmdline: a command line may hold a connection string.
	mux.HandleFunc("GET /debug/pprof/cmdline", http.NotFound)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return o.onlyLocalNames(mux)
}

// onlyLocalNames refuses requests that reached this machine under a foreign name: a page in the operator's browser whose name was rebound to
// 127.0.0.1 could read everything here.
func (o *Ops) onlyLocalNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(strings.Trim(host, "[]"), "80")
		}
		if !o.Public && !loopback(host) {
			http.Error(w, "this address is for this machine: ask for it as 127.0.0.1 or localhost", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (o *Ops) livez(w http.ResponseWriter, r *http.Request) {
	report := liveness(o.Health.Live())
	respond(w, r, report)
}

func (o *Ops) readyz(w http.ResponseWriter, r *http.Request) {
	respond(w, r, o.Health.Report(r.Context()))
}

// healthz is both of them in one.
func (o *Ops) healthz(w http.ResponseWriter, r *http.Request) {
	report, live := o.Health.Report(r.Context()), liveness(o.Health.Live())
	report.Checks = append(live.Checks, report.Checks...)
	if live.Status == StatusError {
		report.Status = StatusError
	}
	respond(w, r, report)
}

func liveness(err error) Report {
	check := resultOf("loops", err)
	return Report{Status: check.Status, Checks: []Check{check}}
}

func respond(w http.ResponseWriter, r *http.Request, report Report) {
	code := http.StatusOK
	if report.Status == StatusError {
		code = http.StatusServiceUnavailable
	}
	write(w, r, code, report, report.String())
}

// String is the report for people: the status, then a line for each check and state.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, r.Status)
	for _, c := range r.Checks {
		fmt.Fprintf(&b, "%s %s", c.Name, c.Status)
		if c.Error != "" {
			fmt.Fprintf(&b, ": %s", Printable(c.Error))
		}
		fmt.Fprintln(&b)
	}
	for _, part := range slices.Sorted(maps.Keys(r.States)) {
		fmt.Fprintf(&b, "%s %s\n", part, r.States[part])
	}
	return b.String()
}

func write(w http.ResponseWriter, r *http.Request, code int, value any, text string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if strings.Contains(r.Header.Get("Accept"), "text/plain") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(code)
		_, _ = w.Write([]byte(text)) // the client is gone: nobody is left to tell
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value) // the client is gone: nobody is left to tell
}
