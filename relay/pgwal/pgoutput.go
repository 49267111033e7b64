package pgwal

import (
	"errors"
	"fmt"
	"time"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// Messages of the plugin pgoutput, protocol version 1, as decoded from bytes alone. The first byte is the message's kind.
// See https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html.
const (
	kindBegin    = 'B'
	kindCommit   = 'C'
	kindOrigin   = 'O'
	kindRelation = 'R'
	kindType     = 'Y'
	kindInsert   = 'I'
	kindUpdate   = 'U'
	kindDelete   = 'D'
	kindTruncate = 'T'
	kindMessage  = 'M'

	kindStreamStart  = 'S'
	kindStreamStop   = 'E'
	kindStreamCommit = 'c'
	kindStreamAbort  = 'A'
)

// begin opens a transaction, which the server has already committed.
type begin struct {
	commitLSN   relay.LSN // where its commit record begins; known before the rows
	committedAt time.Time
}

func decodeBegin(src []byte) (begin, error) {
	r := reader{src: src}
	m := begin{commitLSN: relay.LSN(r.uint64()), committedAt: r.time()}
	r.uint32() // transaction id
	return m, r.done("Begin")
}

// commit closes a transaction.
type commit struct {
	commitLSN relay.LSN // as in begin
	endLSN    relay.LSN // where the next record begins: the position to confirm
}

func decodeCommit(src []byte) (commit, error) {
	r := reader{src: src}
	r.uint8() // flags, unused
	m := commit{commitLSN: relay.LSN(r.uint64()), endLSN: relay.LSN(r.uint64())}
	r.time()
	return m, r.done("Commit")
}

// relation describes a table. It is sent before the first row of the table on a connection, and again after each change of the table.
type relation struct {
	oid          uint32
	schema, name string
	columns      []record.Column
}

func decodeRelation(src []byte) (relation, error) {
	r := reader{src: src}
	m := relation{oid: r.uint32(), schema: r.text(), name: r.text()}
	r.uint8() // replica identity
	n := int(r.uint16())
	for range n {
		if r.err != nil {
			break
		}
		r.uint8() // flags: part of the key
		m.columns = append(m.columns, record.Column{Name: r.text(), TypeOID: r.uint32()})
		r.uint32() // type modifier
	}
	return m, r.done("Relation")
}

// insertTarget is the OID of the table that a row message is about.
func insertTarget(src []byte) (uint32, error) {
	r := reader{src: src}
	oid := r.uint32()
	return oid, r.err
}

var (
	errUnchanged = errors.New("an inserted row has a value that is marked as unchanged")
	errBinary    = errors.New("a value came in binary form, which was not asked for")
)

// decodeInsert appends the row's values to dst: text forms that point into src, nil for NULL.
func decodeInsert(src []byte, dst [][]byte) ([][]byte, error) {
	r := reader{src: src}
	r.uint32() // the table
	if kind := r.uint8(); r.err == nil && kind != 'N' {
		r.fail(fmt.Errorf("tuple of kind %q instead of a new one", kind))
	}
	n := int(r.uint16())
	for range n {
		if r.err != nil {
			break
		}
		switch kind := r.uint8(); kind {
		case 'n':
			dst = append(dst, nil)
		case 't':
			dst = append(dst, r.bytes(int(int32(r.uint32()))))
		case 'u':
			r.fail(errUnchanged)
		case 'b':
			r.fail(errBinary)
		default:
			r.fail(fmt.Errorf("column of unknown kind %q", kind))
		}
	}
	return dst, r.done("Insert")
}

// done is the reader's error, or that bytes are left over.
func (r *reader) done(message string) error {
	if r.err == nil && len(r.src) > 0 {
		r.err = fmt.Errorf("%d bytes are left over", len(r.src))
	}
	if r.err != nil {
		return fmt.Errorf("pgoutput message %s: %w", message, r.err)
	}
	return nil
}
