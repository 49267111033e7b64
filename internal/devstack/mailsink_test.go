package devstack_test

import (
	"context"
	"errors"
	"fmt"
	"net/smtp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/devstack"
)

func TestTheSinkKeepsWhatIsSent(t *testing.T) {
	t.Parallel()
	sink, addr := startSink(t)
	before := time.Now()
	send(t, addr, "Subject: Welcome\r\nFrom: walpost <noreply@walpost.example>\r\nMessage-ID: <one@walpost.example>\r\n\r\nHello Ada\r\n")
	m, err := sink.Wait(within(t, 10*time.Second), func(m devstack.Mail) bool { return m.Subject == "Welcome" })
	if err != nil {
		t.Fatalf("Wait() = %v", err)
	}
	if m.ReceivedAt.Before(before) || m.ReceivedAt.After(time.Now()) {
		t.Errorf("ReceivedAt = %v, want now", m.ReceivedAt)
	}
	m.ReceivedAt, m.Bytes = time.Time{}, 0
	want := devstack.Mail{
		Number: 1, From: "walpost <noreply@walpost.example>", To: []string{"ada@example.com", "bob@example.com"},
		Subject: "Welcome", MessageID: "one@walpost.example", Text: "Hello Ada\r\n",
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("mail (-want +got):\n%s", diff)
	}
	if got, found := sink.Mail(1); !found || got.Subject != "Welcome" {
		t.Errorf("Mail(1) = %v, %t", got, found)
	}
	if _, found := sink.Mail(2); found {
		t.Error("Mail(2) is there, want none")
	}
}

func TestTheSinkForgetsTheOldestMails(t *testing.T) {
	t.Parallel()
	sink, addr := startSink(t)
	c := dial(t, addr)
	for i := range 1001 {
		sendOn(t, c, fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i+1))
	}
	kept, total := sink.Mails()
	if total != 1001 || len(kept) != 1000 {
		t.Fatalf("Mails() = %d kept of %d, want 1000 of 1001", len(kept), total)
	}
	if kept[0].Subject != "1001" || kept[999].Subject != "2" {
		t.Errorf("Mails() begins with %s and ends with %s, want 1001 and 2", kept[0].Subject, kept[999].Subject)
	}
	if _, found := sink.Mail(1); found {
		t.Error("Mail(1) is still there")
	}
	if m, found := sink.Mail(2); !found || m.Subject != "2" {
		t.Errorf("Mail(2) = %q, %t", m.Subject, found)
	}
}

func TestAMailThatIsTooLargeIsRefused(t *testing.T) {
	t.Parallel()
	sink, addr := startSink(t)
	err := smtp.SendMail(addr, nil, "a@example.com", []string{"b@example.com"}, []byte("Subject: big\r\n\r\n"+strings.Repeat("0123456789abcdef\r\n", 1<<16)))
	if err == nil || !strings.Contains(err.Error(), "552") {
		t.Errorf("SendMail(1.2 MB) = %v, want code 552", err)
	}
	if _, total := sink.Mails(); total != 0 {
		t.Errorf("mails = %d, want 0", total)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	var sink devstack.MailSink
	never := errors.New("no mail came")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(never)
	if _, err := sink.Wait(ctx, func(devstack.Mail) bool { return true }); !errors.Is(err, never) {
		t.Errorf("Wait() = %v, want %v", err, never)
	}
}

func startSink(t *testing.T) (*devstack.MailSink, string) {
	t.Helper()
	sink, l := &devstack.MailSink{}, listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sink.Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run() = %v", err)
		}
	})
	return sink, l.Addr().String()
}

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func send(t *testing.T, addr, mail string) {
	t.Helper()
	sendOn(t, dial(t, addr), mail)
}

func dial(t *testing.T, addr string) *smtp.Client {
	t.Helper()
	c, err := smtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func sendOn(t *testing.T, c *smtp.Client, mail string) {
	t.Helper()
	for _, step := range []func() error{
		func() error { return c.Mail("noreply@walpost.example") },
		func() error { return c.Rcpt("ada@example.com") },
		func() error { return c.Rcpt("bob@example.com") },
		func() error {
			w, err := c.Data()
			if err != nil {
				return err
			}
			if _, err := w.Write([]byte(mail)); err != nil {
				return err
			}
			return w.Close()
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}
