package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/freeport"
)

const (
	// registered is the type of the application's event.
	registered = "notif.user.registration"

	deadLetters = "bench.dead-letters"

	// Names of processes in Use, besides those of a relay's measurement.
	processAPI = "api-server"
)

// application is the API server, and the mail server that it all ends at. The consumer is another for each contestant.
type application struct {
	api  carrier
	url  string
	http *http.Client

	mail *mailbox
	smtp string
	stop func(context.Context) error
}

func (w *world) startApplication(ctx context.Context) (a *application, err error) {
	if err := w.createTopics(ctx, deadLetters); err != nil {
		return nil, err
	}
	a = &application{mail: newMailbox(), http: &http.Client{Transport: w.transport}}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := smtp.NewServer(a.mail)
	server.Domain = "bench"
	server.ErrorLog = noLog{} // a client that hangs up is no news
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends with Close
	}()
	a.smtp = listener.Addr().String()
	a.stop = func(ctx context.Context) error {
		if a.api != nil {
			err = a.api.stop(ctx)
		}
		err = errors.Join(err, server.Close())
		_ = listener.Close() // closed before, unless Serve has not begun
		<-served
		return err
	}
	addr, err := freeport.Addr()
	if err != nil {
		return nil, errors.Join(err, a.stop(ctx))
	}
	api, err := w.program(ctx, "api", "api-server", "--addr", addr, "--database-url", w.url(), "--rate-limit", "0")
	if err != nil {
		return nil, errors.Join(err, a.stop(ctx))
	}
	a.api, a.url = program{api}, "http://"+addr
	return a, nil
}

func (a *application) watch(m *meter) {
	m.watch(processAPI, func(context.Context) []int { return []int{a.api.pid()} })
}

func (w *world) startConsumer(ctx context.Context, l lane, smtpAddr string) (carrier, error) {
	p, err := w.program(ctx, l.name+"-consumer", "kafka-consumer", "--database-url", w.url(), "--kafka-brokers", w.broker.Addr(),
		"--topics", l.topicOf(registered), "--group", l.name, "--dead-letter-topic", deadLetters, "--smtp-addr", smtpAddr, "--smtp-tls", "none")
	if err != nil {
		return nil, err
	}
	return program{p}, nil
}

// mailbox is a mail server that notes when a mail to an address was accepted, and throws it away.
type mailbox struct {
	changed chan struct{} // gets a token whenever a mail has come

	mu      sync.Mutex // protects all below
	arrived map[string][]time.Time
}

func newMailbox() *mailbox {
	return &mailbox{changed: make(chan struct{}, 1), arrived: make(map[string][]time.Time)}
}

func (b *mailbox) accept(recipients []string) {
	now := time.Now()
	b.mu.Lock()
	for _, recipient := range recipients {
		b.arrived[recipient] = append(b.arrived[recipient], now)
	}
	b.mu.Unlock()
	select {
	case b.changed <- struct{}{}:
	default: // a token is there already
	}
}

// mails are the times at which mails to the address came.
func (b *mailbox) mails(recipient string) []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.arrived[recipient]
}

// NewSession implements smtp.Backend.
func (b *mailbox) NewSession(*smtp.Conn) (smtp.Session, error) { return &delivery{box: b}, nil }

// delivery is one client's conversation; the server calls it from one goroutine.
type delivery struct {
	box *mailbox
	to  []string
}

// Mail implements smtp.Session: it begins a mail.
func (d *delivery) Mail(string, *smtp.MailOptions) error { return nil }

// Rcpt implements smtp.Session: it adds a recipient.
func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.to = append(d.to, to)
	return nil
}

// Data implements smtp.Session: it takes the mail itself.
func (d *delivery) Data(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	d.box.accept(d.to)
	return nil
}

// Reset implements smtp.Session: it forgets the mail begun.
func (d *delivery) Reset() { d.to = nil }

// Logout implements smtp.Session.
func (d *delivery) Logout() error { return nil }

type noLog struct{}

func (noLog) Printf(string, ...any) {}
func (noLog) Println(...any)        {}

// sightings are when events were first seen in the topic, by id.
type sightings struct {
	mu   sync.Mutex // protects seen
	seen map[string]time.Time
}

func newSightings() *sightings { return &sightings{seen: make(map[string]time.Time)} }

func (s *sightings) add(now time.Time, records []*kgo.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range records {
		id := string(header(r, "id"))
		if _, again := s.seen[id]; !again {
			s.seen[id] = now
		}
	}
}

func (s *sightings) of(id string) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.seen[id]
	return at, ok
}
