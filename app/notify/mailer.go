package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/walpost/walpost/app"
)

// mailer speaks SMTP. It is not changed after it was made and safe for concurrent use.
type mailer struct {
	smtp SMTP
	host string
	port int
	from *netmail.Address
}

// letter is the fixed text of a mail. Nothing a stranger wrote is ever part of it.
type letter struct{ subject, text string }

func letterOf(kind app.Kind) (letter, bool) {
	switch kind {
	case app.KindWelcome:
		return letter{"Welcome", "Welcome!\n\n" +
			"Your account has been created with this address.\n\n" +
			"If that was not you, you need not do anything.\n"}, true
	case app.KindAlreadyRegistered:
		return letter{"You already have an account", "Hello,\n\n" +
			"somebody has just registered with this address, which already has an account. Nothing has changed.\n\n" +
			"If that was you, log in with the password you have. If not, you need not do anything.\n"}, true
	default:
		return letter{}, false
	}
}

// compose makes the message of an effect, the same at every attempt but for its date.
func (m *mailer) compose(e effect, now time.Time) (*mail.Msg, error) {
	text, ok := letterOf(e.kind)
	if !ok {
		return nil, fmt.Errorf("no mail of kind %q is known", e.kind)
	}
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	msg.FromMailAddress(m.from)
	if err := msg.To(string(e.recipient)); err != nil {
		return nil, errors.New("the recipient is not an address") // the library's error repeats it
	}
	msg.Subject(text.subject)
	msg.SetMessageIDWithValue(e.id.String() + "@" + m.smtp.Domain)
	msg.SetDateWithValue(now)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no vacation notice comes back
	msg.SetBodyString(mail.TypeTextPlain, text.text)
	return msg, nil
}

// send returns nil once the server has taken responsibility for the mail. After any other error than a refusal the server
// may have the mail nevertheless, if the connection broke before its answer came. The end of ctx breaks the connection.
func (m *mailer) send(ctx context.Context, e effect) error {
	msg, err := m.compose(e, time.Now())
	if err != nil {
		return err
	}
	conn, err := m.dial(ctx)
	if err != nil {
		return fmt.Errorf("connect to the mail server %s: %w", m.smtp.Addr, err)
	}
	// The library closes a connection only after a whole session, and heeds the context only while it dials.
	defer func() { _ = conn.Close() }() // the mail's fate is known by then
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	client, err := m.client(ctx, conn)
	if err != nil {
		return err
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return fmt.Errorf("greet the mail server %s: %w", m.smtp.Addr, err)
	}
	err = client.SendWithSMTPClient(session, msg)
	if !msg.IsDelivered() {
		return err
	}
	_ = session.UpdateDeadline(time.Second) // a server that does not say goodbye must not hold up what we know
	_ = client.CloseWithSMTPClient(session)
	return nil
}

// dial connects and, with TLSImplicit, encrypts.
func (m *mailer) dial(ctx context.Context) (net.Conn, error) {
	addr := net.JoinHostPort(m.host, strconv.Itoa(m.port))
	if m.smtp.TLS == TLSImplicit {
		return (&tls.Dialer{Config: m.smtp.TLSConfig}).DialContext(ctx, "tcp", addr)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// client makes the library's client for one session on conn.
func (m *mailer) client(ctx context.Context, conn net.Conn) (*mail.Client, error) {
	policy := mail.NoTLS
	if m.smtp.TLS == TLSStart {
		policy = mail.TLSMandatory
	}
	timeout := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(deadline), time.Millisecond) // ctx ends the session; 0 would be refused
	}
	options := []mail.Option{
		mail.WithPort(m.port), mail.WithHELO(m.smtp.Domain), mail.WithTimeout(timeout),
		mail.WithTLSPolicy(policy), mail.WithTLSConfig(m.smtp.TLSConfig),
		mail.WithoutNoop(), mail.WithoutRset(), // one mail a session
		mail.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) { return conn, nil }),
	}
	if m.smtp.Username != "" {
		options = append(options, mail.WithUsername(m.smtp.Username), mail.WithPassword(m.smtp.Password),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	client, err := mail.NewClient(m.host, options...)
	if err != nil {
		return nil, fmt.Errorf("make a mail client: %w", err)
	}
	return client, nil
}

// refusal returns the codes of an answer that refuses this mail for good: 5yz to RCPT, DATA or its end. MAIL is about our sender and 53z about our
// credentials (RFC 4954, section 6): the operator's fault, not the mail's, so they are worth another attempt.
func refusal(err error) (codes string, refused bool) {
	failed, ok := errors.AsType[*mail.SendError](err)
	if !ok || failed.Reason == mail.ErrSMTPMailFrom || failed.ErrorCode()/100 != 5 || failed.ErrorCode()/10 == 53 {
		return "", false
	}
	return codesOf(failed), true
}

// describe tells an error without the addresses that the library's text and the server's answers repeat.
func describe(err error) string {
	failed, ok := errors.AsType[*mail.SendError](err)
	if !ok {
		return err.Error()
	}
	if failed.ErrorCode() == 0 {
		return failed.Reason.String() + ": no answer"
	}
	return failed.Reason.String() + ": " + codesOf(failed)
}

func codesOf(failed *mail.SendError) string {
	return strings.TrimSpace(strconv.Itoa(failed.ErrorCode()) + " " + failed.EnhancedStatusCode())
}
