package pgwal

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

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
		"a halt by the server":        {&relay.HaltError{Cause: relay.PublicationMissing, Err: &pgconn.PgError{Code: "42704"}}, false},
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
