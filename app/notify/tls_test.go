package notify_test

import (
	"crypto/tls"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/notify"
)

func TestWorkerEncryptsWithSTARTTLS(t *testing.T) {
	t.Parallel()
	b, server := setup(t), new(mailServer)
	var trust *tls.Config
	server.tls, trust = certificate(t)
	cfg := quick(server.start(t, anyPort))
	cfg.SMTP.TLS, cfg.SMTP.TLSConfig = notify.TLSStart, trust
	id := b.record(app.KindWelcome)
	run(t, b.pool, cfg)
	b.wait(id, "sent 1 SENT")
	if mails := server.received(); len(mails) != 1 || !mails[0].tls {
		t.Errorf("mails = %+v, want one over TLS", mails)
	}
}

// Neither a server that does not offer TLS nor one that nobody vouches for gets a mail.
func TestWorkerSendsNothingInClearOrToAStranger(t *testing.T) {
	t.Parallel()
	identity, _ := certificate(t)
	for name, tc := range map[string]struct {
		server *mailServer
		logged string
	}{
		"no STARTTLS":            {&mailServer{}, "does not support STARTTLS"},
		"an unknown certificate": {&mailServer{tls: identity}, "certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			cfg := quick(tc.server.start(t, anyPort))
			cfg.SMTP.TLS, cfg.Attempts = notify.TLSStart, 2
			id := b.record(app.KindWelcome)
			r := run(t, b.pool, cfg)
			b.wait(id, "failed 2 FAILED the mail could not be handed over in 2 attempts")
			r.stop()
			if n := len(tc.server.received()); n != 0 || !strings.Contains(r.log.String(), tc.logged) {
				t.Errorf("%d mails, log %s, want none and %q", n, r.log, tc.logged)
			}
		})
	}
}

func TestWorkerAuthenticatesOverImplicitTLS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	identity, trust := certificate(t)
	listener, err := tls.Listen("tcp", anyPort, identity)
	if err != nil {
		t.Fatal(err)
	}
	heard := scripted(t, listener, map[string]string{
		"EHLO": "250-mail.test\r\n250 AUTH LOGIN PLAIN", "AUTH": "235 welcome", "MAIL": "250 ok", "RCPT": "250 ok",
		"DATA": "550 5.7.1 no", "QUIT": "221 bye",
	})
	cfg := quick(listener.Addr().String())
	cfg.SMTP.TLS, cfg.SMTP.TLSConfig, cfg.SMTP.Username, cfg.SMTP.Password = notify.TLSImplicit, trust, "walpost", "hunter2"
	id := b.record(app.KindWelcome)
	run(t, b.pool, cfg)
	b.wait(id, "failed 1 FAILED the mail server refused the mail (550)")
	lines := receive(t, "the end of the conversation", heard)
	want := []string{"EHLO walpost.example", "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00walpost\x00hunter2"))}
	if len(lines) < 2 || !slices.Equal(lines[:2], want) {
		t.Errorf("the server heard %q, want %q first", lines, want)
	}
}
