package kafkasink_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// wire is the network below a client, with a fault at one kind of request. See https://kafka.apache.org/protocol#protocol_messages.
type wire struct {
	key kmsg.Key

	deaf atomic.Bool // the broker's answers to it do not arrive, and neither does anything after

	once     sync.Once
	reached  chan struct{} // if not nil: closed when the request is about to be sent, which then waits for released
	released chan struct{}
}

func (w *wire) options() []kgo.Opt {
	return []kgo.Opt{kgo.RequestRetries(0), kgo.Dialer(func(ctx context.Context, network, host string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, host)
		return &wireConn{Conn: conn, wire: w}, err
	})}
}

type wireConn struct {
	net.Conn
	wire *wire
	cut  atomic.Bool
}

func (c *wireConn) Write(b []byte) (int, error) {
	const size = 4
	if len(b) >= size+2 && binary.BigEndian.Uint16(b[size:]) == uint16(c.wire.key.Int16()) {
		if c.wire.reached != nil {
			c.wire.once.Do(func() { close(c.wire.reached) })
			<-c.wire.released
		}
		c.cut.Store(c.wire.deaf.Load())
	}
	return c.Conn.Write(b)
}

func (c *wireConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cut.Load() {
		return 0, errors.New("cut after the broker had answered")
	}
	return n, err
}
