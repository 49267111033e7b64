package pgwal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// wire is a TCP connection that can be made to swallow everything, as a router would that was switched off.
type wire struct {
	net.Listener
	server string
	until  int // the connection on which the server's first ReadyForQuery is the last message to pass; 0: none
	dead   chan struct{}
	once   sync.Once
	owned  sync.WaitGroup
}

func newWire(t *testing.T, server string) *wire { return newWireUntil(t, server, 0) }

func newWireUntil(t *testing.T, server string, until int) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, server: server, until: until, dead: make(chan struct{})}
	w.owned.Go(func() {
		for n := 1; ; n++ {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				_ = near.Close() // which tells the client
				continue
			}
			t.Cleanup(func() { _, _ = near.Close(), far.Close() })
			w.owned.Go(func() { w.carry(near, far, n == until) })
			w.owned.Go(func() { w.carry(far, near, false) })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return w
}

func (w *wire) goSilent() { w.once.Do(func() { close(w.dead) }) }

func (w *wire) carry(to, from net.Conn, last bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		select {
		case <-w.dead:
			if err == nil {
				continue
			}
			return // and the other end does not hear of it
		default:
			if err == nil {
				_, err = to.Write(buf[:n])
			}
			if last && bytes.Contains(buf[:n], []byte("Z\x00\x00\x00\x05I")) {
				w.goSilent()
			}
		}
		if err != nil {
			_ = to.Close() // the other direction ends too
			return
		}
	}
}

func TestAUnixSocketIsReadAsAConnectionOverTheNetwork(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.url = pgtest.Local(t, d.url)
	s := open(t, d.source(t, nil))
	const rows = 2000
	d.exec(t, "insert into outbox_events (id, aggregate_id, event_type, payload) select gen_random_uuid(), n::text, 'things', to_json(repeat('x', 500)) from generate_series(1, $1) n", rows)
	read(t, s, rows)
	var port int
	d.scan(t, `select client_port from pg_stat_replication join pg_replication_slots on pid = active_pid where slot_name = $1`, []any{d.slot}, &port)
	if port != -1 { // as the server tells a Unix socket
		t.Errorf("the relay reads from port %d, want a Unix socket", port)
	}
}

func TestAServerThatIsSilentFromTheStartIsGivenUp(t *testing.T) {
	t.Parallel()
	for name, connection := range map[string]int{"when it is asked": 1, "when the stream is to start": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			d.exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", d.slot)
			wire := newWireUntil(t, fmt.Sprintf("%s:%d", d.Config().ConnConfig.Host, d.Config().ConnConfig.Port), connection)
			src := d.source(t, func(c *pgwal.Config) { c.URL, c.ConnectTimeout = through(d, wire.Addr()), 500*time.Millisecond })
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := src.Open(ctx)
			var halt *relay.HaltError
			if err == nil || errors.As(err, &halt) || ctx.Err() != nil {
				t.Errorf("Open = %v with the test's patience at %v, want a passing error before", err, ctx.Err())
			}
		})
	}
}

// through is the database's URL by way of another address.
func through(d database, by net.Addr) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", d.Config().ConnConfig.User, by, d.Config().ConnConfig.Database)
}

func TestAServerThatGoesSilentIsGivenUp(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	wire := newWire(t, fmt.Sprintf("%s:%d", d.Config().ConnConfig.Host, d.Config().ConnConfig.Port))
	src := d.source(t, func(c *pgwal.Config) {
		c.URL, c.SenderTimeout = through(d, wire.Addr()), time.Second
	})
	s := open(t, src)
	d.exec(t, insert("a"))
	read(t, s, 1)
	wire.goSilent()
	began := time.Now()
	_, err := next(t, s)
	if err == nil {
		t.Error("Next = nil, want an error")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("silence was noticed after %v (%v), want about twice a second", took, err)
	}
}
