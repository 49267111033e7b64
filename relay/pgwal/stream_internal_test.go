package pgwal

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpost/walpost/relay"
)

func TestTheLastWordsAreThePositionAndGoodbye(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	s := &stream{
		cfg: Config{SenderTimeout: time.Minute}.withDefaults(), conn: near, queue: newQueue(Config{}, new(atomic.Int64)),
		status: make(chan struct{}, 1), closing: make(chan struct{}),
	}
	s.confirmed.Store(0x16B374D848)
	close(s.closing)
	s.owned.Go(func() {
		s.report()
		_ = near.Close() // ends the reading below
	})
	got, err := io.ReadAll(far)
	s.owned.Wait()
	want := appendStatus(nil, 0x16B374D848, time.Now(), false)
	if err != nil || len(got) != len(want)+len(terminate) || string(got[:30]) != string(want[:30]) || string(got[len(want):]) != terminate {
		t.Errorf("report at the end wrote %q, %v, want a status update with the position and a Terminate", got, err)
	}
}

func TestOnlyAHaltLetsTheQueueRunEmpty(t *testing.T) {
	t.Parallel()
	halt := &relay.HaltError{Cause: relay.ColumnMissing, Err: errShort}
	for name, tc := range map[string]struct {
		err     error
		emptied bool
	}{
		"a halt":                      {halt, true},
		"a halt by the server":        {&relay.HaltError{Cause: relay.PublicationMissing, Err: &pgconn.PgError{Code: "42704"}}, true},
		"an error":                    {errShort, false},
		"an error of the server":      {&pgconn.PgError{Code: "57P01"}, false},
		"a queue that is over anyway": {errEnded, false},
	} {
		q, _ := smallQueue()
		q.put(part(1, 7))
		s := &stream{queue: q}
		s.end(tc.err)
		b, err := q.next(t.Context())
		if tc.emptied && (err != nil || b.end != 7) || !tc.emptied && !errors.Is(err, tc.err) {
			t.Errorf("next after %s = %v, %v, want what was queued: %v", name, b.end, err, tc.emptied)
		}
	}
}

// quiet is a stream without a connection.
func quiet(cfg Config) *stream {
	s := &stream{cfg: cfg.withDefaults(), queue: newQueue(cfg.withDefaults(), new(atomic.Int64)), closing: make(chan struct{})}
	s.status, s.doubt = make(chan struct{}, 1), make(chan struct{}, 1)
	s.feed = newAssembler(s.cfg, target{}, s.queue, make(layouts))
	return s
}

func TestANoticeIsAHaltOrAReasonToLook(t *testing.T) {
	t.Parallel()
	s := quiet(Config{})
	s.feed.received.Store(18)
	err := s.handle(&pgproto3.NoticeResponse{Severity: "WARNING", Code: "55000", Message: "skipped loading publication"})
	var halt *relay.HaltError
	if !errors.As(err, &halt) || halt.Cause != relay.PublicationMissing || halt.From != 18 || halt.Hint == "" {
		t.Errorf("handle of PostgreSQL 18's warning = %v, want a halt of cause publication_missing at 0/12", err)
	}
	if len(s.doubt) != 0 {
		t.Error("a halt asks for a look at the publication")
	}
	if err := s.handle(&pgproto3.NoticeResponse{Severity: "WARNING", Code: "01000"}); err != nil || len(s.doubt) != 1 {
		t.Errorf("handle of another notice = %v with %d requests to look, want none and one", err, len(s.doubt))
	}
}

func TestConfirmTakesWhatWasHandedOutAndNeverGoesBack(t *testing.T) {
	t.Parallel()
	s := quiet(Config{})
	s.feed.received.Store(30)
	s.queue.put(part(1, 20))
	if _, err := s.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Confirm(20)
	<-s.status
	s.Confirm(10)
	if got := s.confirmed.Load(); got != 20 || len(s.status) != 0 {
		t.Errorf("position after Confirm(20) and Confirm(10) = %d, want 20, and nothing to send", got)
	}
	s.Confirm(21)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := s.Next(ctx); !errors.Is(err, errBeyond) || s.confirmed.Load() != 20 {
		t.Errorf("Next after Confirm of a position that was received and not handed out = %v, want errBeyond", err)
	}
}

func TestAConnectionLostBehindAHaltTakesNothingWithIt(t *testing.T) {
	t.Parallel()
	s := quiet(Config{})
	s.queue.put(part(1, 7))
	s.end(&relay.HaltError{Cause: relay.ColumnMissing, Err: errShort})
	s.lost(io.ErrUnexpectedEOF)
	if b, err := s.Next(t.Context()); err != nil || b.End != 7 {
		t.Errorf("Next = %v, %v, want what was queued", b.End, err)
	}
	var halt *relay.HaltError
	if _, err := s.Next(t.Context()); !errors.As(err, &halt) {
		t.Errorf("Next = %v, want the halt", err)
	}
}
