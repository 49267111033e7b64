package httpapi

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"strings"

	"github.com/walpost/walpost/internal/generated/api_models"
)

// maxBodyBytes bounds a request's body; a registration needs less than a thousand.
const maxBodyBytes = 16 << 10

// bodies has the schema of the body of every operation that takes one, by its pattern. The generated server decodes with
// encoding/json, which lets unknown, repeated and differently cased members pass, null for the object, and a second value.
var bodies = map[string]schema{
	"POST /api/v1/users": schemaOf(reflect.TypeFor[api_models.Registration]()),
}

// gate stands in front of every operation with a body: only a request that is neither too frequent nor malformed passes.
type gate struct {
	errs    *errorWriter
	clients *buckets
	proxies []netip.Prefix
}

func (g *gate) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s, ok := bodies[r.Pattern]; ok {
			if err := g.check(w, r, s); err != nil {
				g.errs.write(w, r, err)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// check takes the cheap decisions first and leaves the checked body in r, to be read again.
func (g *gate) check(w http.ResponseWriter, r *http.Request, s schema) error {
	if wait := g.clients.take(clientKey(r, g.proxies)); wait > 0 {
		return &requestError{kind: errTooMany, detail: "too many registrations from this client", retryAfter: wait}
	}
	if !isJSON(r.Header) {
		w.Header().Set("Accept", "application/json")
		return &requestError{
			kind: errMediaType, detail: "send one Content-Type header with application/json, and no Content-Encoding",
		}
	}
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	if faults := s.check(body); len(faults) > 0 {
		return &requestError{kind: errInvalidBody, detail: faults[0].sentence(), faults: toModels(faults)}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

// isJSON reports whether the header declares JSON in UTF-8, once and unambiguously.
func isJSON(h http.Header) bool {
	types := h.Values("Content-Type")
	if len(types) != 1 || h.Get("Content-Encoding") != "" {
		return false
	}
	mediaType, params, err := mime.ParseMediaType(types[0])
	charset, declared := params["charset"]
	return err == nil && mediaType == "application/json" && (!declared || strings.EqualFold(charset, "utf-8"))
}

// readBody reads the whole body, as far as size and the server's read deadline allow.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	_, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case err == nil:
		return body, nil
	case tooLarge:
		return nil, &requestError{kind: errLargeBody, detail: "the limit is 16384 bytes"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &requestError{kind: errSlowBody, detail: "the connection is closed; send the whole body at once"}
	default:
		return nil, &requestError{kind: errInvalidBody, detail: "the body could not be read to its end"}
	}
}
