package devstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	keptMails    = 1000
	maxMailBytes = 1 << 20 // a larger mail is refused with code 552
	smtpTimeout  = time.Minute
)

// MailSink is an SMTP server that accepts every mail and delivers none: it keeps the last 1,000 in memory. The zero value is ready; its methods
// are safe for concurrent use.
type MailSink struct {
	mu      sync.Mutex // protects all below
	mails   []Mail     // oldest first
	count   int        // of all mails since the beginning
	arrived chan struct{}
}

// Run serves SMTP on the listener, without TLS and without authentication, until ctx is done, and closes it.
func (s *MailSink) Run(ctx context.Context, l net.Listener) error {
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailSession{sink: s}, nil }))
	server.Domain = "walpost-dev"
	server.MaxMessageBytes = maxMailBytes
	server.ReadTimeout, server.WriteTimeout = smtpTimeout, smtpTimeout
	server.EnableSMTPUTF8 = true
	server.ErrorLog = noLog{} // a client that hangs up is no news
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("mail sink: %w", err), server.Close())
	case <-ctx.Done():
		// A mail in flight was not acknowledged: its sender will send it again. The server knows the listener only once Serve has begun.
		err := server.Close()
		_ = l.Close() // most often closed already
		return errors.Join(err, <-served)
	}
}

// Mails returns the kept mails, newest first, and how many came in all.
func (s *MailSink) Mails() (kept []Mail, total int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept = slices.Clone(s.mails)
	slices.Reverse(kept)
	return kept, s.count
}

// Mail returns the mail with the number; false when there never was one or it has been dropped.
func (s *MailSink) Mail(number int) (Mail, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, found := slices.BinarySearchFunc(s.mails, number, func(m Mail, n int) int { return cmp.Compare(m.Number, n) })
	if !found {
		return Mail{}, false
	}
	return s.mails[i], true
}

// Wait returns the first kept mail that matches, at once or when it arrives; ctx bounds the wait and its cause is the error.
func (s *MailSink) Wait(ctx context.Context, match func(Mail) bool) (Mail, error) {
	for {
		s.mu.Lock()
		if i := slices.IndexFunc(s.mails, match); i >= 0 {
			defer s.mu.Unlock()
			return s.mails[i], nil
		}
		if s.arrived == nil {
			s.arrived = make(chan struct{})
		}
		arrived := s.arrived
		s.mu.Unlock()
		select {
		case <-arrived:
		case <-ctx.Done():
			return Mail{}, context.Cause(ctx)
		}
	}
}

func (s *MailSink) add(m Mail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	m.Number = s.count
	if len(s.mails) == keptMails {
		s.mails = slices.Delete(s.mails, 0, 1)
	}
	s.mails = append(s.mails, m)
	if s.arrived != nil {
		close(s.arrived)
		s.arrived = nil
	}
}

// mailSession is one client's conversation; the server calls it from one goroutine.
type mailSession struct {
	sink *MailSink
	from string
	to   []string
}

// Mail implements smtp.Session: it begins a mail.
func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.from = from
	return nil
}

// Rcpt implements smtp.Session: it adds a recipient.
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

// Data implements smtp.Session: it takes the mail itself.
func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m := parseMail(raw)
	m.ReceivedAt = time.Now()
	m.From = cmp.Or(m.From, strings.ToValidUTF8(s.from, "\ufffd"))
	m.To = slices.Clone(s.to)
	s.sink.add(m)
	return nil
}

// Reset implements smtp.Session: it forgets the mail begun.
func (s *mailSession) Reset() { s.from, s.to = "", nil }

// Logout implements smtp.Session.
func (s *mailSession) Logout() error { return nil }

type noLog struct{}

func (noLog) Printf(string, ...any) {}
func (noLog) Println(...any)        {}
