package notify_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// received is a mail that the mail server has taken in, whatever it answered.
type received struct {
	from, to string
	header   netmail.Header
	body     string
	tls      bool
}

// mailServer is an SMTP server in this process, with faults. Its hooks are set before it is started; a nil hook accepts.
type mailServer struct {
	onMail func(n int) error                            // MAIL, the n-th from 1
	onRcpt func(n int) error                            // RCPT, the n-th
	onData func(n int, m received, conn net.Conn) error // the end of DATA, the n-th; the mail has been kept

	tls *tls.Config // offer STARTTLS

	mu    sync.Mutex // guards what follows
	calls [3]int
	mails []received
	conns []net.Conn // all that were accepted
}

// start listens on addr, "127.0.0.1:0" for any port, and returns the address. The server is stopped when the test ends.
func (s *mailServer) start(t *testing.T, addr string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatalf("listen for mail: %v", err)
	}
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{server: s, conn: c}, nil }))
	server.Domain = "mail.test"
	server.TLSConfig = s.tls
	server.ReadTimeout = time.Minute
	server.ErrorLog = discard{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(keeper{listener, s}) // ends with ErrServerClosed
	}()
	t.Cleanup(func() {
		shut := make(chan error, 1)
		go func() { shut <- server.Shutdown(context.WithoutCancel(t.Context())) }() // unlike Close it waits for the sessions
		<-done
		s.mu.Lock()
		for _, conn := range s.conns {
			_ = conn.Close() // most are closed
		}
		s.mu.Unlock()
		if err := receive(t, "the mail server's sessions to end", shut); err != nil {
			t.Errorf("stop the mail server: %v", err)
		}
	})
	return listener.Addr().String()
}

// keeper is a listener that lets the mail server know its connections.
type keeper struct {
	net.Listener
	server *mailServer
}

func (k keeper) Accept() (net.Conn, error) {
	conn, err := k.Listener.Accept()
	if err == nil {
		k.server.mu.Lock()
		defer k.server.mu.Unlock()
		k.server.conns = append(k.server.conns, conn)
	}
	return conn, err
}

func (s *mailServer) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.mails...)
}

func (s *mailServer) count(call int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[call]++
	return s.calls[call]
}

type session struct {
	server *mailServer
	conn   *smtp.Conn
	mail   received
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	_, encrypted := s.conn.TLSConnectionState()
	s.mail = received{from: from, tls: encrypted}
	if s.server.onMail == nil {
		return nil
	}
	return s.server.onMail(s.server.count(0))
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.mail.to = to
	if s.server.onRcpt == nil {
		return nil
	}
	return s.server.onRcpt(s.server.count(1))
}

func (s *session) Data(r io.Reader) error {
	parsed, err := netmail.ReadMessage(r)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(parsed.Body)
	if err != nil {
		return err
	}
	s.mail.header, s.mail.body = parsed.Header, string(body)
	s.server.mu.Lock()
	s.server.mails = append(s.server.mails, s.mail)
	s.server.mu.Unlock()
	if s.server.onData == nil {
		return nil
	}
	return s.server.onData(s.server.count(2), s.mail, s.conn.Conn())
}

func (s *session) Reset()        {}
func (s *session) Logout() error { return nil }

// refuse is an answer of the server.
func refuse(code int, enhanced smtp.EnhancedCode) error {
	// Real servers repeat the address; logs and notifications must not.
	return &smtp.SMTPError{Code: code, EnhancedCode: enhanced, Message: "<ada@example.com>: refused"}
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}

// certificate returns configurations for a server at 127.0.0.1 and for clients that trust it.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	https := httptest.NewTLSServer(nil) // has a certificate for 127.0.0.1
	https.Close()
	pool := x509.NewCertPool()
	pool.AddCert(https.Certificate())
	return &tls.Config{Certificates: https.TLS.Certificates}, &tls.Config{RootCAs: pool}
}

// scripted is a mail server that says what it is told to, on one connection. It returns the lines it was sent.
func scripted(t *testing.T, listener net.Listener, answers map[string]string) <-chan []string {
	t.Helper()
	heard := make(chan []string, 1)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		var lines []string
		defer func() { heard <- lines }()
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, "220 mail.test\r\n")
		buffer := make([]byte, 4096)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			line := strings.TrimSpace(string(buffer[:n]))
			lines = append(lines, line)
			verb, _, _ := strings.Cut(line, " ")
			_, _ = io.WriteString(conn, answers[verb]+"\r\n")
		}
	}()
	return heard
}
