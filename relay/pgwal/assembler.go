package pgwal

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
)

// assembler turns frames, in the order of the connection, into batches of a queue. It needs no connection. One goroutine uses it,
// but for received.
type assembler struct {
	cfg    Config
	table  target
	queue  *queue
	arena  arena
	values [][]byte // of the row at hand, reused

	tables  map[uint32]*table // by OID, as described on this connection
	recent  *table            // the one of the row before
	layouts layouts

	open        bool // between Begin and Commit
	commitLSN   relay.LSN
	committedAt time.Time
	index       uint32 // of the next event in the transaction
	tx          batch  // events of the transaction that are not in the queue yet

	// received is the highest position that was queued. It is stored before that, so that whoever confirms finds it.
	received atomic.Uint64
}

// table is what is known of one table of the publication.
type table struct {
	relation
	encoder *record.Encoder // nil: not the outbox
	changed bool            // since the last commit
}

// layouts are the columns in use of each table, by OID, as consumers know them: a Source keeps them from one connection to the next. One
// assembler uses them at a time.
type layouts map[uint32]layout

type layout struct {
	columns []record.Column
	since   relay.LSN // commit LSN of the transaction that they were settled with; up to there the log may be read again, with older ones
}

func newAssembler(cfg Config, t target, q *queue, l layouts) *assembler {
	return &assembler{cfg: cfg, table: t, queue: q, tables: make(map[uint32]*table), layouts: l}
}

// eventOverhead is what an event takes in memory beside its frame: the Event itself and its headers.
const eventOverhead = 384

// errEnded says that the queue takes nothing any more; why is known to whoever ended it.
var errEnded = errors.New("queue has ended")

// data handles one pgoutput message, whose bytes are valid during the call only, and which the server sent at sent, or 0. A *relay.HaltError leaves
// everything committed before it to be published.
func (a *assembler) data(src []byte, sent int64) error {
	kind, body := src[0], src[1:]
	switch kind {
	case kindInsert:
		return a.insert(body)
	case kindBegin:
		return a.begin(body, sent)
	case kindCommit:
		return a.commit(body)
	case kindRelation:
		return a.describe(body)
	case kindOrigin, kindType, kindUpdate, kindDelete, kindTruncate, kindMessage:
		return nil // nothing of this concerns an outbox: an event is an insert
	case kindStreamStart, kindStreamStop, kindStreamCommit, kindStreamAbort:
		return fmt.Errorf("pgoutput message %q: the server streams unfinished transactions, which protocol version 1 excludes", kind)
	}
	return fmt.Errorf("pgoutput message of unknown kind %q", kind)
}

func (a *assembler) begin(src []byte, sent int64) error {
	m, err := decodeBegin(src)
	if err != nil {
		return err
	}
	if a.open {
		return fmt.Errorf("transaction %s begins inside transaction %s", m.commitLSN, a.commitLSN)
	}
	a.open, a.commitLSN, a.committedAt, a.index = true, m.commitLSN, m.committedAt, 0
	a.tx.lag = max(0, postgresTime(sent).Sub(m.committedAt))
	return nil
}

func (a *assembler) commit(src []byte) error {
	m, err := decodeCommit(src)
	if err != nil {
		return err
	}
	if !a.open || m.commitLSN != a.commitLSN || m.endLSN <= m.commitLSN {
		return fmt.Errorf("commit %s to %s does not end transaction %s", m.commitLSN, m.endLSN, a.commitLSN)
	}
	a.settle()
	a.open = false
	a.received.Store(max(a.received.Load(), uint64(m.endLSN)))
	if len(a.tx.events) == 0 {
		a.queue.advance(m.endLSN)
		return nil
	}
	a.tx.end = m.endLSN
	return a.flush()
}

// settle takes the layouts of a transaction that has ended for what consumers know.
func (a *assembler) settle() {
	for oid, t := range a.tables {
		if t.changed && a.commitLSN > a.layouts[oid].since {
			a.layouts[oid] = layout{t.encoder.Columns(), a.commitLSN}
		}
		t.changed = false
	}
}

// keepalive takes over the server's position, unless a transaction is under way: only between two of them does it cover all that was sent.
func (a *assembler) keepalive(k keepalive) {
	if a.open || uint64(k.end) <= a.received.Load() {
		return
	}
	a.received.Store(uint64(k.end))
	a.queue.advance(k.end)
}

func (a *assembler) describe(src []byte) error {
	m, err := decodeRelation(src)
	if err != nil {
		return err
	}
	t := &table{relation: m}
	a.tables[m.oid], a.recent = t, nil
	if !a.table.is(m) {
		return nil
	}
	if t.encoder, err = a.cfg.Mapping.Resolve(m.columns); err != nil {
		return a.halt(relay.ColumnMissing, fmt.Errorf("table %s.%s: %w", m.schema, m.name, err),
			"give the table its column back; what was written without it stays so in the log: "+a.cfg.skip("pg_current_wal_lsn()")+
				", then append the rows behind this position again that are not on the topic, and start the relay again")
	}
	t.changed = true
	settled := a.layouts[m.oid]
	if settled.columns == nil || a.commitLSN <= settled.since || slices.Equal(settled.columns, t.encoder.Columns()) {
		return nil
	}
	return a.halt(relay.ColumnMissing,
		fmt.Errorf("table %s.%s: the columns in use were %v and are %v: events would look different from here on", m.schema, m.name, settled.columns, t.encoder.Columns()),
		"start the relay again if the consumers are prepared for it")
}

func (a *assembler) insert(src []byte) error {
	t, err := a.tableOf(src)
	if err != nil || t.encoder == nil {
		return err
	}
	if !a.open {
		return fmt.Errorf("row of table %s.%s outside a transaction", t.schema, t.name)
	}
	frame := a.arena.copy(src)
	if a.values, err = decodeInsert(frame, a.values[:0]); err != nil {
		return err
	}
	rec, err := t.encoder.Encode(a.values)
	if err != nil {
		if rec, err = a.refused(t, err); err != nil {
			return err
		}
	}
	a.tx.events = append(a.tx.events, relay.Event{
		Position: relay.Position{Commit: a.commitLSN, Index: a.index}, CommittedAt: a.committedAt, Record: rec,
	})
	a.tx.bytes += int64(len(frame) + eventOverhead)
	a.index++
	if len(a.tx.events) >= a.cfg.BatchEvents || a.tx.bytes >= a.cfg.BatchBytes {
		return a.flush()
	}
	return nil
}

// refused is what is handed on of the row at hand, which the encoder refuses, or the halt that it is. See relay.Event.Dead.
func (a *assembler) refused(t *table, why error) (record.Record, error) {
	halt := a.halt(relay.Unpublishable, fmt.Errorf("table %s.%s: %w", t.schema, t.name, why), a.skipHint())
	if !a.cfg.DeadLetters {
		return record.Record{}, halt
	}
	rec, err := t.encoder.Salvage(a.values)
	if err != nil {
		return record.Record{}, halt
	}
	rec.Headers = append(rec.Headers, record.Header{Key: record.HeaderDeadMessage, Value: []byte(halt.Err.Error())})
	return rec, nil
}

func (a *assembler) tableOf(src []byte) (*table, error) {
	oid, err := insertTarget(src)
	if err != nil {
		return nil, err
	}
	if a.recent == nil || a.recent.oid != oid {
		t, ok := a.tables[oid]
		if !ok {
			return nil, fmt.Errorf("row of table %d, which was not described", oid)
		}
		a.recent = t
	}
	return a.recent, nil
}

// flush hands what there is of the transaction to the queue. It waits while the queue is full.
func (a *assembler) flush() error {
	if !a.queue.put(a.tx) {
		return errEnded
	}
	clear(a.tx.events) // the queue has copies; these would keep the rows alive
	a.tx = batch{events: a.tx.events[:0], lag: a.tx.lag}
	return nil
}

// skipHint is how to get past a row that can never be published.
func (a *assembler) skipHint() string {
	return "this row blocks all behind it: append what it was meant to be as a new event, with whatever else its transaction appended, then leave that transaction out: " +
		a.cfg.skip(fmt.Sprintf("'%s'", a.commitLSN+1)) + ", and start the relay again"
}

func (a *assembler) halt(cause relay.Cause, err error, hint string) *relay.HaltError {
	return &relay.HaltError{Cause: cause, From: a.commitLSN, Err: err, Hint: hint}
}

// arena copies frames into chunks, because a frame on the connection lives only until the next is read. Rows point into it; a chunk is freed
// with the last of its rows.
type arena struct{ free []byte }

const arenaChunk = 64 << 10

func (a *arena) copy(src []byte) []byte {
	if len(src) > arenaChunk/4 {
		return slices.Clone(src)
	}
	if len(src) > len(a.free) {
		a.free = make([]byte, arenaChunk)
	}
	out := a.free[:len(src):len(src)]
	a.free = a.free[copy(out, src):]
	return out
}
