package devstack

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

//go:embed web
var web embed.FS

// contentSecurity lets a page load its own style and script and nothing else; what an event or a mail contains can never run.
const contentSecurity = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'self'"

// Page is the status page: the way of the last events and the mails of the sink. It only reads, and it shows payloads and mails to whoever can
// reach it, which is why it answers to loopback names alone.
type Page struct {
	version string
	try     string
	sources Sources
	pages   map[string]*template.Template
	mux     *http.ServeMux
}

// NewPage makes the page. version is shown in its head, try is the command that an empty list suggests.
func NewPage(version, try string, sources Sources) (*Page, error) {
	p := &Page{version: version, try: try, sources: sources, pages: map[string]*template.Template{}, mux: http.NewServeMux()}
	for _, name := range []string{"path", "event", "mails", "mail", "error"} {
		t, err := template.New("layout.html").Funcs(viewFuncs()).ParseFS(web, "web/layout.html", "web/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("status page: %w", err)
		}
		p.pages[name] = t
	}
	p.mux.HandleFunc("GET /{$}", p.path)
	p.mux.HandleFunc("GET /events/{id}", p.event)
	p.mux.HandleFunc("GET /mails", p.mails)
	p.mux.HandleFunc("GET /mails/{number}", p.mail)
	p.mux.HandleFunc("GET /status.json", p.json)
	p.mux.HandleFunc("GET /style.css", p.asset)
	p.mux.HandleFunc("GET /live.js", p.asset)
	p.mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		p.fail(w, http.StatusNotFound, "There is no page here.")
	})
	return p, nil
}

// ServeHTTP refuses hosts that are not this machine: a name that a foreign page made to point here must not read mails (DNS rebinding).
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", contentSecurity)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if !loopbackHost(r.Host) {
		http.Error(w, "this page answers to 127.0.0.1, localhost and [::1] only", http.StatusMisdirectedRequest)
		return
	}
	p.mux.ServeHTTP(w, r)
}

func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]") // without a port
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

func (p *Page) path(w http.ResponseWriter, r *http.Request) {
	p.render(w, http.StatusOK, "path", view{Title: "The way of an event", Status: p.status(r.Context())})
}

func (p *Page) json(w http.ResponseWriter, r *http.Request) {
	text, err := json.MarshalIndent(p.status(r.Context()), "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n')) // the reader may have gone
}

func (p *Page) status(ctx context.Context) Status {
	st := p.sources.Status(ctx)
	st.Version = p.version
	return st
}

func (p *Page) event(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		p.fail(w, http.StatusNotFound, "An event id is a UUID: 36 characters.")
		return
	}
	e, found, err := p.sources.find(r.Context(), id)
	switch {
	case err != nil:
		p.fail(w, http.StatusServiceUnavailable, "PostgreSQL: "+err.Error())
	case !found:
		p.fail(w, http.StatusNotFound, "There is no event "+id.String()+" in the outbox table.")
	default:
		p.render(w, http.StatusOK, "event", view{Title: "Event " + id.String(), Event: e})
	}
}

func (p *Page) mails(w http.ResponseWriter, _ *http.Request) {
	kept, total := p.sources.Mails.Mails()
	p.render(w, http.StatusOK, "mails", view{Title: "Mails", Mails: kept, MailsTotal: total})
}

func (p *Page) mail(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.PathValue("number"))
	m, found := p.sources.Mails.Mail(number)
	if err != nil || !found {
		p.fail(w, http.StatusNotFound, "There is no such mail: the sink keeps the last "+strconv.Itoa(keptMails)+" since it started.")
		return
	}
	p.render(w, http.StatusOK, "mail", view{Title: "Mail " + strconv.Itoa(number), Mail: m})
}

func (p *Page) asset(w http.ResponseWriter, r *http.Request) {
	http.ServeFileFS(w, r, web, "web"+r.URL.Path)
}

func (p *Page) fail(w http.ResponseWriter, code int, message string) {
	p.render(w, code, "error", view{Title: http.StatusText(code), Message: message})
}

// render fills the page in memory first, so that a mistake in a template is an error and not half a page.
func (p *Page) render(w http.ResponseWriter, code int, name string, v view) {
	v.Version, v.Try, v.Page, v.Now, v.RunsOn = p.version, p.try, name, time.Now(), p.sources.RunsOn
	var body bytes.Buffer
	if err := p.pages[name].Execute(&body, v); err != nil {
		http.Error(w, errors.Join(errors.New("status page"), err).Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = body.WriteTo(w) // the reader may have gone
}
