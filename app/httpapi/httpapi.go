// Package httpapi serves the reference application over HTTP: the API of docs/api/swagger.yaml, its description and its
// documentation page.
//
// It holds no rules: a handler decodes, calls the Service and encodes. What it keeps is the edge: no request reaches the
// generated server before its media type, size and JSON were checked, every answer that is not a success is a problem
// document (RFC 9457) from the one table in problem.go, and no text of an internal error leaves the process.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/internal/generated/api_models"
)

// Service is the application behind the API; *app.Service is one. Its errors are told apart by the sentinels of package app.
type Service interface {
	Register(ctx context.Context, email, password string) (app.NotificationID, error)
	Notification(ctx context.Context, id app.NotificationID) (app.Notification, error)
}

// Config holds what an operator may set about the API. The zero value is ready and limits no rate.
type Config struct {
	// Logger gets faults of the server, with the request's id and without any part of its body. Default: discards.
	Logger *slog.Logger
	// ClientLimit bounds the registrations of one client: an IPv4 address, or an IPv6 network of 64 bits. Default: off.
	ClientLimit Limit
	// RecipientLimit bounds the registrations, and so the mails, of one address. Default: off.
	RecipientLimit Limit
	// TrustedProxies are the networks whose X-Forwarded-For is believed. Default: none, the peer is the client.
	TrustedProxies []netip.Prefix
	// RequestTimeout bounds the work on one request; beyond it the answer is 503. Default: 10 s.
	RequestTimeout time.Duration
}

const defaultRequestTimeout = 10 * time.Second

// New returns the handler of the API under /api/v1, of /openapi.yaml and /openapi.json, and of /docs. It is safe for
// concurrent use and starts no goroutine.
func New(service Service, cfg Config) http.Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.RequestTimeout <= 0 {
		cfg.RequestTimeout = defaultRequestTimeout
	}
	errs := &errorWriter{log: cfg.Logger}
	handlers := &handlers{service: service, recipients: newBuckets(cfg.RecipientLimit)}
	strict := api_models.NewStrictHandlerWithOptions(handlers, nil, api_models.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  errs.write,
		ResponseErrorHandlerFunc: errs.write,
	})
	gate := &gate{errs: errs, clients: newBuckets(cfg.ClientLimit), proxies: cfg.TrustedProxies}
	mux := http.NewServeMux()
	api_models.HandlerWithOptions(strict, api_models.StdHTTPServerOptions{
		BaseRouter:       mux,
		Middlewares:      []api_models.MiddlewareFunc{gate.wrap},
		ErrorHandlerFunc: errs.writeParameter,
	})
	handleDocs(mux)
	return withRequestID(withHeaders(withTimeout(cfg.RequestTimeout, withRecovery(errs, withRoutes(errs, mux)))))
}

// NewServer returns a server for the handler with limits on time and size, which http.Server does not have by itself: slow or
// idle clients are cut off. The caller may set an address, a listener and an ErrorLog, and runs it.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}
