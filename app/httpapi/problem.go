package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/internal/generated/api_models"
)

// What the edge itself refuses. Errors of these kinds are requestErrors, whose text is meant for the client.
var (
	errInvalidBody      = errors.New("invalid body")
	errInvalidParameter = errors.New("invalid parameter")
	errUnknownPath      = errors.New("unknown path")
	errMethod           = errors.New("method not allowed")
	errSlowBody         = errors.New("slow body")
	errLargeBody        = errors.New("large body")
	errMediaType        = errors.New("unsupported media type")
	errTooMany          = errors.New("too many requests")
)

// problemBase is where each problem is explained, under a heading that is its slug.
const problemBase = "https://github.com/walpost/walpost/blob/main/docs/api/problems.md#"

// problem is what an error becomes on the wire. Its slug is a promise: clients compare the type that ends with it.
type problem struct {
	slug       string
	status     int
	title      string
	retryAfter time.Duration // of the header Retry-After, unless the error says better; 0: no header
	level      slog.Level    // at which the error is logged here, where it stops travelling
}

var (
	invalidFields = problem{"invalid-fields", 400, "A field breaks a rule", 0, slog.LevelDebug}
	unavailable   = problem{"unavailable", 503, "The server cannot answer now", 5 * time.Second, slog.LevelWarn}
	overload      = problem{"busy", 503, "The server has too much work", 2 * time.Second, slog.LevelDebug}
	internal      = problem{"internal", 500, "The server failed", 0, slog.LevelError}
)

// problems is the one table from error to status: the first row whose error is in the chain counts, none means internal.
var problems = []struct {
	err error
	problem
}{
	{app.ErrInvalidEmail, invalidFields},
	{app.ErrInvalidPassword, invalidFields},
	{errInvalidBody, problem{"invalid-body", 400, "The body does not match its description", 0, slog.LevelDebug}},
	{errInvalidParameter, problem{"invalid-parameter", 400, "A parameter breaks a rule", 0, slog.LevelDebug}},
	{app.ErrNotFound, problem{"unknown-notification", 404, "The notification is not known", 0, slog.LevelDebug}},
	{errUnknownPath, problem{"unknown-path", 404, "There is nothing at this path", 0, slog.LevelDebug}},
	{errMethod, problem{"method-not-allowed", 405, "The method is not allowed here", 0, slog.LevelDebug}},
	{errSlowBody, problem{"request-timeout", 408, "The body did not arrive in time", 0, slog.LevelDebug}},
	{errLargeBody, problem{"body-too-large", 413, "The body is too large", 0, slog.LevelDebug}},
	{errMediaType, problem{"unsupported-media-type", 415, "The body's media type is not supported", 0, slog.LevelDebug}},
	{errTooMany, problem{"too-many-requests", 429, "Too many requests", time.Second, slog.LevelDebug}},
	{app.ErrBusy, overload},
	{app.ErrUnavailable, unavailable},
	{context.DeadlineExceeded, unavailable},
	{context.Canceled, overload}, // the client has left, nobody reads the answer
}

// problemOf looks an error up in the table.
func problemOf(err error) problem {
	for _, row := range problems {
		if errors.Is(err, row.err) {
			return row.problem
		}
	}
	return internal
}

// requestError is an error of the edge whose text is for the client.
type requestError struct {
	kind       error // one of the sentinels above
	detail     string
	faults     []api_models.Fault
	retryAfter time.Duration
}

// Error returns the text for the client.
func (e *requestError) Error() string { return e.detail }

// Unwrap returns the sentinel, so that the table finds it.
func (e *requestError) Unwrap() error { return e.kind }

// errorWriter turns errors into answers.
type errorWriter struct{ log *slog.Logger }

// write answers with the problem of err and logs what the client is not told.
func (e *errorWriter) write(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	e.log.LogAttrs(r.Context(), p.level, "request failed",
		slog.String("request_id", w.Header().Get(headerRequestID)), slog.String("method", r.Method),
		slog.String("pattern", r.Pattern), slog.Int("status", p.status), slog.Any("error", err))
	body := api_models.Problem{Type: problemBase + p.slug, Title: p.title, Status: p.status}
	retryAfter := p.retryAfter
	own, ours := errors.AsType[*requestError](err)
	switch fields := app.FieldErrors(err); {
	case ours:
		describe(&body, own.detail, own.faults)
		retryAfter = max(retryAfter, own.retryAfter)
	case len(fields) > 0:
		describe(&body, sentences(fields), faultsOf(fields))
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(retryAfter.Seconds()))))
	}
	w.WriteHeader(p.status)
	_ = json.NewEncoder(w).Encode(body) // fails only when the client has left
}

// writeParameter answers for a path parameter that the generated server could not read. The generated error repeats the value.
func (e *errorWriter) writeParameter(w http.ResponseWriter, r *http.Request, err error) {
	detail := "a parameter could not be read"
	if format, ok := errors.AsType[*api_models.InvalidParamFormatError](err); ok {
		detail = "the path parameter " + format.ParamName + " is not a UUID"
	}
	e.write(w, r, &requestError{kind: errInvalidParameter, detail: detail})
}

func describe(body *api_models.Problem, detail string, faults []api_models.Fault) {
	if detail != "" {
		body.Detail = &detail
	}
	if len(faults) > 0 {
		body.Errors = &faults
	}
}

func sentences(fields []*app.FieldError) string {
	all := make([]string, len(fields))
	for i, f := range fields {
		all[i] = f.Error()
	}
	return strings.Join(all, "; ")
}

func faultsOf(fields []*app.FieldError) []api_models.Fault {
	faults := make([]api_models.Fault, len(fields))
	for i, f := range fields {
		pointer := "#/" + f.Field
		faults[i] = api_models.Fault{Pointer: &pointer, Detail: f.Reason}
	}
	return faults
}
