package notify_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/notify"
	"github.com/walpost/walpost/internal/freeport"
	"github.com/walpost/walpost/outbox"
)

const anyPort = "127.0.0.1:0"

// inboxHandler is the handler under the type that the consumer knows it by.
var inboxHandler = notify.Handler

func TestWorkerSendsTheMailOfEachKind(t *testing.T) {
	t.Parallel()
	for kind, tc := range map[app.Kind]struct{ subject, text string }{
		app.KindWelcome:           {"Welcome", "Your account has been created"},
		app.KindAlreadyRegistered: {"You already have an account", "Nothing has changed."},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			b, server := setup(t), new(mailServer)
			id := b.record(kind)
			run(t, b.pool, quick(server.start(t, anyPort)))
			b.wait(id, "sent 1 SENT")
			mails := server.received()
			if len(mails) != 1 {
				t.Fatalf("%d mails, want 1", len(mails))
			}
			m := mails[0]
			got := []string{
				m.from, m.to, m.header.Get("From"), m.header.Get("To"), m.header.Get("Message-ID"), m.header.Get("Subject"),
				m.header.Get("Auto-Submitted"), m.header.Get("Content-Type"),
			}
			want := []string{
				"noreply@walpost.example", "ada@example.com", `"walpost" <noreply@walpost.example>`, "<ada@example.com>", messageID(id), tc.subject,
				"auto-generated", "text/plain; charset=UTF-8",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("mail (-want +got):\n%s", diff)
			}
			if date, err := m.header.Date(); err != nil || time.Since(date).Abs() > time.Minute {
				t.Errorf("Date = %v, %v, want now", date, err)
			}
			if !strings.Contains(m.body, tc.text) || m.header.Get("User-Agent") != "" {
				t.Errorf("body = %q, want one with %q; User-Agent = %q, want none", m.body, tc.text, m.header.Get("User-Agent"))
			}
			times := b.text(`select (n.sent_at = e.sent_at and n.failed_at is null)::text from mail_effects e, notifications n`)
			if times != "true" {
				t.Error("the times of the mail and of its notification differ")
			}
		})
	}
}

// With a poll of an hour only the notification can have told the worker, and only a look at its start what was there before.
func TestWorkerIsWokenByTheHandler(t *testing.T) {
	t.Parallel()
	b, server := setup(t), new(mailServer)
	before := b.record(app.KindWelcome)
	cfg := quick(server.start(t, anyPort))
	cfg.Poll = time.Hour
	run(t, b.pool, cfg)
	b.wait(before, "sent 1 SENT")
	for range 3 {
		b.wait(b.record(app.KindWelcome), "sent 1 SENT")
	}
}

// The server, when it has the mail, sees in the database that it is started: had the worker died there, all would know.
func TestWorkerCommitsStartedBeforeTheMailLeaves(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.record(app.KindWelcome)
	seen := make(chan string, 1)
	server := &mailServer{onMail: func(int) error {
		var state string
		err := b.pool.QueryRow(t.Context(), `select state || ' ' || attempts from mail_effects`).Scan(&state)
		seen <- state
		return err
	}}
	run(t, b.pool, quick(server.start(t, anyPort)))
	b.wait(id, "sent 1 SENT")
	if got := receive(t, "the server's look into the database", seen); got != "started 1" {
		t.Errorf("state while the mail leaves = %q, want started 1", got)
	}
}

func TestWorkerTriesAgain(t *testing.T) {
	t.Parallel()
	temporary := refuse(451, smtp.EnhancedCode{4, 7, 1})
	twice := func(err error) func(int) error {
		return func(n int) error {
			if n <= 2 {
				return err
			}
			return nil
		}
	}
	for name, tc := range map[string]struct {
		server *mailServer
		mails  int // taken in
	}{
		"when the sender is refused for now":            {&mailServer{onMail: twice(temporary)}, 1},
		"when the recipient is refused for now":         {&mailServer{onRcpt: twice(temporary)}, 1},
		"when our credentials are refused":              {&mailServer{onMail: twice(refuse(530, smtp.EnhancedCode{5, 7, 0}))}, 1},
		"when the mail is refused for now":              {&mailServer{onData: func(n int, _ received, _ net.Conn) error { return twice(temporary)(n) }}, 3},
		"when the connection is dropped after the mail": {&mailServer{onData: dropTwice}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.record(app.KindWelcome)
			results := make(observer, 3)
			cfg := quick(tc.server.start(t, anyPort))
			cfg.Observer = results
			run(t, b.pool, cfg)
			b.wait(id, "sent 3 SENT")
			want := slices.Repeat([]string{messageID(id)}, tc.mails)
			if diff := cmp.Diff(want, ids(tc.server.received())); diff != "" {
				t.Errorf("Message-IDs of the mails taken in (-want +got):\n%s", diff)
			}
			var got []string
			for range 3 {
				got = append(got, receive(t, "an attempt", results))
			}
			if diff := cmp.Diff([]string{"pending", "pending", "sent"}, got); diff != "" {
				t.Errorf("attempts observed (-want +got):\n%s", diff)
			}
		})
	}
}

func dropTwice(n int, _ received, conn net.Conn) error {
	if n <= 2 {
		return conn.Close()
	}
	return nil
}

type observer chan string

func (o observer) MailAttempted(state string, age time.Duration) {
	if age <= 0 {
		state += " at an impossible age"
	}
	o <- state
}

func TestWorkerGivesUp(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		server *mailServer
		want   string
	}{
		"at once when the recipient is refused for good": {
			&mailServer{onRcpt: func(int) error { return refuse(550, smtp.EnhancedCode{5, 1, 1}) }},
			"failed 1 FAILED the mail server refused the mail (550 5.1.1)",
		},
		"but not at once when our sender is refused, which the operator can mend": {
			&mailServer{onMail: func(int) error { return refuse(550, smtp.EnhancedCode{5, 7, 1}) }},
			"failed 3 FAILED the mail could not be handed over in 3 attempts",
		},
		"at once when the mail is refused for good": {
			&mailServer{onData: func(int, received, net.Conn) error { return refuse(554, smtp.EnhancedCode{5, 6, 0}) }},
			"failed 1 FAILED the mail server refused the mail (554 5.6.0)",
		},
		"after the last attempt": {
			&mailServer{onRcpt: func(int) error { return refuse(450, smtp.EnhancedCode{4, 2, 1}) }},
			"failed 3 FAILED the mail could not be handed over in 3 attempts",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			id := b.record(app.KindWelcome)
			cfg := quick(tc.server.start(t, anyPort))
			cfg.Attempts = 3
			r := run(t, b.pool, cfg)
			b.wait(id, tc.want)
			r.stop()
			if log := r.log.String(); !strings.Contains(log, id.String()) || !strings.Contains(log, "level=") {
				t.Errorf("log = %s, want a line with the event id", log)
			}
			if failed := b.text(`select (failed_at is not null and sent_at is null)::text from notifications`); failed != "true" {
				t.Error("the notification has no time of failure, or one of sending")
			}
		})
	}
}

func TestWorkerOutlivesAMailServerThatIsDown(t *testing.T) {
	t.Parallel()
	b, server := setup(t), new(mailServer)
	addr, err := freeport.Addr() // nobody listens there
	if err != nil {
		t.Fatal(err)
	}
	id := b.record(app.KindWelcome)
	results := make(observer, 1000)
	cfg := quick(addr)
	cfg.Observer, cfg.Attempts = results, 1000
	r := run(t, b.pool, cfg)
	if first := receive(t, "the first attempt", results); first != "pending" {
		t.Fatalf("first attempt = %s, want pending", first)
	}
	server.start(t, addr)
	for receive(t, "an attempt that succeeds", results) != "sent" { // each is an attempt
	}
	r.stop()
	if got := b.state(id); !strings.HasPrefix(got, "sent ") || !strings.Contains(r.log.String(), "connection refused") {
		t.Errorf("mail = %q, log = %s, want it sent and the cause logged", got, r.log)
	}
}

// A server that takes the mail and never answers costs one timeout. Whether it will deliver the mail nobody can know, so it is sent again.
func TestWorkerDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.record(app.KindWelcome)
	release := make(chan struct{})
	server := &mailServer{onData: func(n int, _ received, _ net.Conn) error {
		if n == 1 {
			<-release
		}
		return nil
	}}
	cfg := quick(server.start(t, anyPort))
	t.Cleanup(func() { close(release) })
	cfg.Timeout, cfg.Lease = time.Second, time.Minute
	run(t, b.pool, cfg)
	// A machine that is busy elsewhere may let a second attempt run out of time as well: how many there were does not matter.
	b.waitFor(id, "sent", func(state string) bool { return strings.HasPrefix(state, "sent ") })
	mails := server.received()
	if len(mails) < 2 {
		t.Errorf("%d mails, want another one after the first was not answered", len(mails))
	}
	if diff := cmp.Diff(slices.Repeat([]string{messageID(id)}, len(mails)), ids(mails)); diff != "" {
		t.Errorf("Message-IDs (-want +got):\n%s", diff)
	}
}

// What a worker that died has left: the mail is sent again, but not before the lease ends, because it might live.
func TestWorkerTakesOverWhenTheLeaseEnds(t *testing.T) {
	t.Parallel()
	b, server := setup(t), new(mailServer)
	id := b.record(app.KindWelcome)
	b.exec(`update mail_effects set state = 'started', attempts = 1, started_at = now(), next_attempt_at = now() + interval '400 ms'`)
	end := b.text(`select next_attempt_at::text from mail_effects`)
	run(t, b.pool, quick(server.start(t, anyPort)))
	b.wait(id, "sent 2 SENT")
	if early := b.text(`select (started_at < $1::text::timestamptz)::text from mail_effects`, end); early != "false" {
		t.Error("the mail was started again before its lease ended")
	}
	if diff := cmp.Diff([]string{messageID(id)}, ids(server.received())); diff != "" {
		t.Errorf("Message-IDs (-want +got):\n%s", diff)
	}
}

// A mail that kills its worker every time must come to an end.
func TestWorkerGivesUpAMailWhoseLastWorkerDied(t *testing.T) {
	t.Parallel()
	b, server := setup(t), new(mailServer)
	id := b.record(app.KindWelcome)
	b.exec(`update mail_effects set state = 'started', attempts = 3, started_at = now(), next_attempt_at = now()`)
	cfg := quick(server.start(t, anyPort))
	cfg.Attempts = 3
	run(t, b.pool, cfg)
	b.wait(id, "failed 4 FAILED the mail could not be handed over in 3 attempts")
	if n := len(server.received()); n != 0 {
		t.Errorf("%d mails, want none", n)
	}
}

// The first mails of all slots of all workers are held until each has one: so every worker takes part, and all claim at once.
func TestSeveralWorkersSendEachMailOnce(t *testing.T) {
	t.Parallel()
	const workers, slots, mails = 4, 2, 150
	b := setup(t)
	var together sync.WaitGroup
	together.Add(workers * slots)
	server := &mailServer{onData: func(n int, _ received, _ net.Conn) error {
		if n <= workers*slots {
			together.Done()
			together.Wait()
		}
		return nil
	}}
	cfg := quick(server.start(t, anyPort))
	cfg.Concurrency, cfg.Poll = slots, time.Millisecond
	want := make(map[string]int, mails)
	recorded := make([]outbox.EventID, mails)
	for i := range recorded {
		recorded[i] = b.record(app.KindWelcome)
		want[messageID(recorded[i])] = 1
	}
	for range workers {
		run(t, b.pool, cfg)
	}
	for _, id := range recorded {
		b.wait(id, "sent 1 SENT")
	}
	got := make(map[string]int, mails)
	for _, id := range ids(server.received()) {
		got[id]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mails by Message-ID (-want +got):\n%s", diff)
	}
}

func TestRunEndsAfterTheMailsOnTheirWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.record(app.KindWelcome)
	entered, release := make(chan struct{}), make(chan struct{})
	server := &mailServer{onData: func(int, received, net.Conn) error {
		close(entered)
		<-release
		return nil
	}}
	r := run(t, b.pool, quick(server.start(t, anyPort)))
	receive(t, "the mail to arrive", entered)
	r.cancel()
	late := b.record(app.KindWelcome)
	close(release)
	r.stop()
	if got, untouched := b.state(id), b.state(late); got != "sent 1 SENT" || untouched != "pending 0 PENDING" {
		t.Errorf("after Run: the mail on its way %q, a later one %q, want sent and pending", got, untouched)
	}
}

func TestRunGivesUpTheMailsOnTheirWayAfterDrain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := b.record(app.KindWelcome)
	entered, release := make(chan struct{}), make(chan struct{})
	server := &mailServer{onData: func(int, received, net.Conn) error {
		close(entered)
		<-release
		return nil
	}}
	cfg := quick(server.start(t, anyPort))
	t.Cleanup(func() { close(release) })
	cfg.Drain, cfg.BackoffMin, cfg.BackoffMax = 100*time.Millisecond, time.Hour, time.Hour
	cfg.Attempts = 1 // the stop is not the last one's failure
	r := run(t, b.pool, cfg)
	receive(t, "the mail to arrive", entered)
	r.stop() // which would wait in vain for the server's answer
	if got := b.state(id); got != "pending 0 PENDING" {
		t.Errorf("after Run the mail is %q, want pending 0 PENDING: what the stop broke off is no attempt", got)
	}
}

func TestNewNamesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*notify.Config){
		`smtp address "": use host:port`:              func(c *notify.Config) { c.SMTP.Addr = "" },
		`smtp address "mail": use host:port`:          func(c *notify.Config) { c.SMTP.Addr = "mail" },
		`smtp address "mail:smtp": use host:port`:     func(c *notify.Config) { c.SMTP.Addr = "mail:smtp" },
		`smtp sender "nobody": not an address`:        func(c *notify.Config) { c.SMTP.From = "nobody" },
		`smtp domain "a b": not a domain`:             func(c *notify.Config) { c.SMTP.Domain = "a b" },
		`smtp tls "ssl": use auto`:                    func(c *notify.Config) { c.SMTP.TLS = "ssl" },
		"lease 30s: must be longer than the timeout":  func(c *notify.Config) { c.Lease = 30 * time.Second },
		"back-off from 2s to 1s: must rise":           func(c *notify.Config) { c.BackoffMin, c.BackoffMax = 2*time.Second, time.Second },
		"concurrency -1: at least 1":                  func(c *notify.Config) { c.Concurrency = -1 },
		"attempts -1: at least 1\npoll -1ns: must be": func(c *notify.Config) { c.Attempts, c.Poll = -1, -1 },
	} {
		cfg := notify.Config{SMTP: notify.SMTP{Addr: "127.0.0.1:1025", From: "noreply@walpost.example"}}
		if _, err := notify.New(nil, cfg); err != nil {
			t.Fatalf("New(good) = %v", err)
		}
		change(&cfg)
		if _, err := notify.New(nil, cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%s) = %v, want an error with %q", fmt.Sprint(cfg.SMTP), err, want)
		}
	}
}
