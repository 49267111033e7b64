package devstack

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxFrame is the largest request that Kafka's brokers take by default (socket.request.max.bytes).
const maxFrame = 100 << 20

var errNotKafka = errors.New("not a Kafka client")

// kafkaOnly cuts off a connection whose first bytes are no Kafka request. The broker trusts them: it sets memory aside for the length that they
// state (a browser's "GET " reads as 1.2 GB) and panics at a request kind that does not exist, which would take the whole of `dev` along.
type kafkaOnly struct{ net.Listener }

// Accept implements net.Listener.
func (l kafkaOnly) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &kafkaConn{Conn: conn}, nil
}

// kafkaConn looks at the first frame's length and kind before it lets the broker read them. The broker reads a connection from one goroutine at
// a time, and closes it from others.
type kafkaConn struct {
	net.Conn
	once sync.Once
	head []byte // looked at, not yet handed on
	err  error
}

// Read implements net.Conn.
func (c *kafkaConn) Read(p []byte) (int, error) {
	c.once.Do(c.inspect)
	if c.err != nil {
		return 0, c.err
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// inspect reads the length (4 bytes) and the kind of the first request (2 bytes).
// https://kafka.apache.org/protocol#protocol_messages
func (c *kafkaConn) inspect() {
	head := make([]byte, 6)
	if _, c.err = io.ReadFull(c.Conn, head); c.err != nil {
		return
	}
	length, kind := binary.BigEndian.Uint32(head), int16(binary.BigEndian.Uint16(head[4:]))
	if length > maxFrame || kmsg.RequestForKey(kind) == nil {
		c.err = errNotKafka
		return
	}
	c.head = head
}
