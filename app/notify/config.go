package notify

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"
)

// Config holds what an operator may set about a Worker.
type Config struct {
	// SMTP says where mails go. Addr and From are required.
	SMTP SMTP
	// Concurrency is how many mails this worker sends at the same time, each on a connection of its own. Default: 4.
	Concurrency int
	// Attempts is how often a mail is tried before its notification is FAILED. Default: 16, which with the default back-off
	// spans an outage of about four hours. A try that the end of Run breaks off does not count.
	Attempts int
	// BackoffMin is the pause after a first failure; it doubles with each further one, up to BackoffMax, less up to a half
	// at random. Default: 1 s.
	BackoffMin time.Duration
	// BackoffMax bounds the pause between two attempts. Default: 1 h.
	BackoffMax time.Duration
	// Timeout bounds one attempt, from connecting to the server's last answer. Default: 30 s.
	Timeout time.Duration
	// Lease is how long a mail belongs to the worker that started it. One whose worker died is sent again when it ends; it
	// has to be longer than Timeout, so that a live worker has let go before. Default: one and a half times Timeout.
	Lease time.Duration
	// Poll is how often the worker looks for due mails when nothing wakes it: retries, and what a lost connection did not
	// tell. Default: 5 s.
	Poll time.Duration
	// Drain bounds how long mails on their way are waited for when Run is to end. Default: 3 s.
	Drain time.Duration
	// Logger gets what failed, by event id, never an address. Default: discards.
	Logger *slog.Logger
	// Observer is told of every attempt. Default: nobody.
	Observer Observer
}

// Observer counts. Its method is called from several goroutines and must not block.
type Observer interface {
	// MailAttempted reports what became of an attempt, as the state in the table (sent, pending for a retry, failed), and the
	// time since the mail was recorded.
	MailAttempted(state string, age time.Duration)
}

// SMTP is a mail server and how to speak to it.
type SMTP struct {
	// Addr is the server, host:port.
	Addr string
	// From is the sender, an address with or without a name.
	From string
	// Domain stands in Message-ID and in the greeting. Default: the domain of From.
	Domain string
	// TLS says how the connection is encrypted. Default: TLSAuto.
	TLS TLSMode
	// TLSConfig is for certificates that the system does not know. Default: the server's name is verified against the
	// system's authorities, TLS 1.2 or later.
	TLSConfig *tls.Config
	// Username and Password are for SCRAM-SHA-256, PLAIN or LOGIN, the first that the server offers; the last two never go over
	// an unencrypted connection to another machine. Default: no authentication.
	Username, Password string
}

// TLSMode says how a connection to a mail server is encrypted.
type TLSMode string

const (
	// TLSAuto is TLSNone for a server on this machine, TLSImplicit on port 465, and TLSStart otherwise.
	TLSAuto TLSMode = "auto"
	// TLSNone speaks in clear.
	TLSNone TLSMode = "none"
	// TLSStart speaks in clear until STARTTLS; a server that does not offer it gets no mail.
	TLSStart TLSMode = "starttls"
	// TLSImplicit speaks TLS from the first byte.
	TLSImplicit TLSMode = "tls"
)

func (c Config) withDefaults() Config {
	c.Concurrency = cmp.Or(c.Concurrency, 4)
	c.Attempts = cmp.Or(c.Attempts, 16)
	c.BackoffMin = cmp.Or(c.BackoffMin, time.Second)
	c.BackoffMax = cmp.Or(c.BackoffMax, time.Hour)
	c.Timeout = cmp.Or(c.Timeout, 30*time.Second)
	c.Lease = cmp.Or(c.Lease, c.Timeout*3/2)
	c.Poll = cmp.Or(c.Poll, 5*time.Second)
	c.Drain = cmp.Or(c.Drain, 3*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.SMTP.TLS = cmp.Or(c.SMTP.TLS, TLSAuto)
	return c
}

func (c Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Concurrency > 0, "concurrency %d: at least 1", c.Concurrency)
	check(c.Attempts > 0, "attempts %d: at least 1", c.Attempts)
	check(c.BackoffMin > 0 && c.BackoffMax >= c.BackoffMin, "back-off from %s to %s: must rise from above 0", c.BackoffMin, c.BackoffMax)
	check(c.Timeout > 0, "timeout %s: must be above 0", c.Timeout)
	check(c.Lease > c.Timeout, "lease %s: must be longer than the timeout of %s", c.Lease, c.Timeout)
	check(c.Poll > 0, "poll %s: must be above 0", c.Poll)
	check(c.Drain > 0, "drain %s: must be above 0", c.Drain)
	switch c.SMTP.TLS {
	case TLSAuto, TLSNone, TLSStart, TLSImplicit:
	default:
		check(false, "smtp tls %q: use auto, none, starttls or tls", c.SMTP.TLS)
	}
	return errors.Join(errs...)
}

// resolve reads the texts of the configuration and settles what depends on them.
func (s SMTP) resolve() (*mailer, error) {
	host, portText, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return nil, fmt.Errorf("smtp address %q: use host:port", s.Addr)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || host == "" || port == 0 {
		return nil, fmt.Errorf("smtp address %q: use host:port", s.Addr)
	}
	from, err := netmail.ParseAddress(s.From)
	if err != nil {
		return nil, fmt.Errorf("smtp sender %q: not an address", s.From)
	}
	s.Domain = cmp.Or(s.Domain, from.Address[strings.LastIndexByte(from.Address, '@')+1:])
	if _, err := netmail.ParseAddress("x@" + s.Domain); err != nil {
		return nil, fmt.Errorf("smtp domain %q: not a domain", s.Domain)
	}
	if s.TLS == TLSAuto {
		s.TLS = autoTLS(host, port)
	}
	s.TLSConfig = cmp.Or(s.TLSConfig, &tls.Config{MinVersion: tls.VersionTLS12}).Clone()
	s.TLSConfig.ServerName = cmp.Or(s.TLSConfig.ServerName, host)
	return &mailer{smtp: s, host: host, port: int(port), from: from}, nil
}

func autoTLS(host string, port uint64) TLSMode {
	ip := net.ParseIP(host)
	switch {
	case host == "localhost", ip != nil && ip.IsLoopback():
		return TLSNone
	case port == 465: // RFC 8314, section 7.3
		return TLSImplicit
	default:
		return TLSStart
	}
}
