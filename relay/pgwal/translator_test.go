package pgwal_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// translator is a TCP connection to a server on which every error and notice is put into other words. Codes stay what they are.
type translator struct {
	net.Listener
	translated atomic.Int64
	owned      sync.WaitGroup
}

func newTranslator(t *testing.T, server string) *translator {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := &translator{Listener: l}
	tr.owned.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", server)
			if err != nil {
				_ = near.Close() // which tells the client
				continue
			}
			tr.owned.Go(func() { _, _ = io.Copy(far, near); _ = far.Close() })
			tr.owned.Go(func() { tr.carry(near, far); _ = near.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close() })
	return tr
}

// carry passes on the server's messages, each a letter, its length and its body, until one end is gone.
func (tr *translator) carry(to io.Writer, from io.Reader) {
	for head := make([]byte, 5); ; {
		if _, err := io.ReadFull(from, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return
		}
		if head[0] == 'E' || head[0] == 'N' {
			tr.translated.Add(1)
			body = inOtherWords(body)
			binary.BigEndian.PutUint32(head[1:], uint32(len(body)+4))
		}
		if _, err := to.Write(append(head[:5:5], body...)); err != nil {
			return
		}
	}
}

// inOtherWords changes the fields that the server translates: https://www.postgresql.org/docs/current/protocol-error-fields.html
func inOtherWords(fields []byte) (out []byte) {
	for len(fields) > 1 {
		text, rest, _ := bytes.Cut(fields[1:], []byte{0})
		if bytes.IndexByte([]byte("SMDHW"), fields[0]) >= 0 {
			text = []byte("völlig anders")
		}
		out = append(append(append(out, fields[0]), text...), 0)
		fields = rest
	}
	return append(out, 0)
}
