package e2e_test

import (
	"io"
	"net"
	"net/mail"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// mailServer accepts every mail and counts them by Message-ID.
type mailServer struct {
	addr string

	mu   sync.Mutex // protects byID
	byID map[string]int
}

func startMailServer(t *testing.T) *mailServer {
	t.Helper()
	m := &mailServer{byID: map[string]int{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.addr = l.Addr().String()
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return mailSession{m}, nil }))
	server.Domain = "localhost"
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends with Close
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return m
}

// messages tells how often each Message-ID was accepted.
func (m *mailServer) messages() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	byID := make(map[string]int, len(m.byID))
	for id, n := range m.byID {
		byID[id] = n
	}
	return byID
}

type mailSession struct{ server *mailServer }

func (mailSession) Mail(string, *smtp.MailOptions) error { return nil }
func (mailSession) Rcpt(string, *smtp.RcptOptions) error { return nil }
func (mailSession) Reset()                               {}
func (mailSession) Logout() error                        { return nil }

func (s mailSession) Data(r io.Reader) error {
	message, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.byID[message.Header.Get("Message-ID")]++
	return nil
}
