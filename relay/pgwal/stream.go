package pgwal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpost/walpost/relay"
)

// stream is an open replication connection. Three goroutines own it, and Close waits for all of them: receive reads, report writes, watch
// looks at the publication through a connection of its own.
type stream struct {
	cfg      Config
	conn     net.Conn
	frontend *pgproto3.Frontend
	origin   relay.Origin
	target   target
	queue    *queue
	feed     *assembler // of receive

	handed    relay.LSN     // highest Batch.End that Next returned; of the goroutine that calls Next and Confirm
	confirmed atomic.Uint64 // what the server may forget; stored by the same
	sound     atomic.Uint64 // what had been received when the publication was last found in order
	frames    atomic.Uint64 // counts what receive has read
	halted    atomic.Bool   // the queue ends with a halt, behind what is in it
	unheard   atomic.Bool   // the server takes no position on this connection any more

	status  chan struct{} // capacity 1: tell the server the position
	doubt   chan struct{} // capacity 1: look at the publication
	closing chan struct{} // closed by Close
	cancel  context.CancelFunc
	catchUp func() error // called by Close when nothing else runs
	owned   sync.WaitGroup
	once    sync.Once
}

// closeTimeout bounds how long Close waits for the server to take the last position.
const closeTimeout = 2 * time.Second

func startStream(ctx context.Context, src *Source, wire *pgconn.HijackedConn, o relay.Origin, t target) *stream {
	lasting := context.WithoutCancel(ctx)
	ctx, cancel := context.WithCancel(lasting)
	s := &stream{
		cfg: src.cfg, conn: wire.Conn, frontend: wire.Frontend, origin: o, target: t, queue: newQueue(src.cfg, &src.buffered),
		handed: o.Confirmed, status: make(chan struct{}, 1), doubt: make(chan struct{}, 1), closing: make(chan struct{}), cancel: cancel,
	}
	s.feed = newAssembler(s.cfg, t, s.queue, src.layouts)
	for _, position := range []*atomic.Uint64{&s.feed.received, &s.confirmed, &s.sound} {
		position.Store(uint64(o.Confirmed))
	}
	s.catchUp = func() error { return s.tell(lasting) }
	s.owned.Go(s.receive)
	s.owned.Go(s.report)
	s.owned.Go(func() { s.watch(ctx) })
	return s
}

func (s *stream) Origin() relay.Origin { return s.origin }

func (s *stream) Next(ctx context.Context) (relay.Batch, error) {
	if ctx.Err() != nil {
		return relay.Batch{}, ctx.Err()
	}
	b, err := s.queue.next(ctx)
	s.handed = max(s.handed, b.end)
	return relay.Batch{Events: b.events, End: b.end, Since: b.since}, err
}

// Gather waits until the batch that Next is to return cannot grow any more.
func (s *stream) Gather(ctx context.Context, until time.Time) { s.queue.gather(ctx, until) }

// errBeyond is a broken invariant: the server would believe it and skip what lies between.
var errBeyond = errors.New("position to confirm was never handed out")

func (s *stream) Confirm(end relay.LSN) {
	if end > s.handed {
		s.queue.fail(fmt.Errorf("%w: %s", errBeyond, end))
		return
	}
	if uint64(end) > s.confirmed.Load() {
		s.confirmed.Store(uint64(end))
		signal(s.status)
	}
}

func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		s.queue.fail(net.ErrClosed)
		s.cancel()
		// What the server still sends is read and dropped until it has read our farewell: closing a socket with unread bytes would reset
		// the connection, and the last position with it.
		err = s.conn.SetDeadline(time.Now().Add(closeTimeout))
		close(s.closing)
		s.owned.Wait()
		err = errors.Join(err, s.conn.Close(), s.catchUp())
	})
	return err
}

// receive reads until the connection ends. Once the queue has ended it goes on reading and drops what comes.
func (s *stream) receive() {
	for dropping := false; ; {
		msg, err := s.frontend.Receive()
		if err != nil {
			s.lost(fmt.Errorf("replication connection: %w", err))
			return
		}
		s.frames.Add(1)
		if dropping {
			continue
		}
		if err := s.handle(msg); err != nil {
			dropping = true
			s.end(err)
		}
	}
}

// end ends the queue. What was committed before a halt is still published, since what the operator does next may be the end of this slot.
// Behind any other error it would only be published twice.
func (s *stream) end(err error) {
	var halt *relay.HaltError
	if errors.As(err, &halt) {
		s.halted.Store(true)
		s.queue.finish(err)
		return
	}
	s.queue.lose(err)
}

// lost ends the queue because of the connection, unless it has ended before.
func (s *stream) lost(err error) {
	select {
	case <-s.closing: // the server has heard all
	default:
		s.unheard.Store(true)
	}
	s.queue.lose(err)
}

func (s *stream) handle(msg pgproto3.BackendMessage) error {
	switch msg := msg.(type) {
	case *pgproto3.CopyData:
		return s.frame(msg.Data)
	case *pgproto3.NoticeResponse:
		return s.noticed(msg)
	case *pgproto3.ErrorResponse:
		s.unheard.Store(true)
		return s.cfg.explainStream(pgconn.ErrorResponseToPgError(msg), s.received())
	case *pgproto3.CopyDone:
		return errors.New("the server ended the stream")
	}
	return nil
}

// noticed looks into what the server warns of. PostgreSQL 18 passes over rows whose publication did not exist when they were written, and says so
// here and nowhere else, with a code that a slot has no other use for. Any other notice is a reason to look, and none to stop reading.
func (s *stream) noticed(msg *pgproto3.NoticeResponse) error {
	s.cfg.Logger.Warn("PostgreSQL sent a notice to the relay", "severity", msg.Severity, "code", msg.Code, "message", msg.Message)
	if msg.Code == "55000" {
		return s.cfg.olderThanPublication(s.received(), errors.New(msg.Message))
	}
	signal(s.doubt)
	return nil
}

func (s *stream) received() relay.LSN { return relay.LSN(s.feed.received.Load()) }

func (s *stream) frame(src []byte) error {
	if len(src) == 0 {
		return fmt.Errorf("frame without a kind: %w", errShort)
	}
	switch src[0] {
	case frameData:
		data, sent, err := decodeData(src[1:])
		if err != nil {
			return err
		}
		return s.feed.data(data, sent)
	case frameKeepalive:
		k, err := decodeKeepalive(src[1:])
		if err != nil {
			return err
		}
		s.feed.keepalive(k)
		if k.reply {
			signal(s.status)
		}
		return nil
	}
	return fmt.Errorf("frame of unknown kind %q", src[0])
}
