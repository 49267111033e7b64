package pgwal

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/record"
)

// Messages as a server would send them.

func beginMessage(lsn uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{kindBegin}, lsn)
	b = binary.BigEndian.AppendUint64(b, 5_000_000) // five seconds after the epoch
	return binary.BigEndian.AppendUint32(b, 731)
}

func commitMessage(lsn, end uint64) []byte {
	b := binary.BigEndian.AppendUint64([]byte{kindCommit, 0}, lsn)
	b = binary.BigEndian.AppendUint64(b, end)
	return binary.BigEndian.AppendUint64(b, 5_000_000)
}

func relationMessage(oid uint32, schema, name string, columns ...record.Column) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kindRelation}, oid)
	b = append(append(b, schema...), 0)
	b = append(append(b, name...), 0, 'd')
	b = binary.BigEndian.AppendUint16(b, uint16(len(columns)))
	for _, c := range columns {
		b = append(append(append(b, 1), c.Name...), 0)
		b = binary.BigEndian.AppendUint32(b, c.TypeOID)
		b = binary.BigEndian.AppendUint32(b, 0xffffffff)
	}
	return b
}

// insertMessage takes "NULL" for NULL.
func insertMessage(oid uint32, values ...string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kindInsert}, oid)
	b = append(b, 'N')
	b = binary.BigEndian.AppendUint16(b, uint16(len(values)))
	for _, v := range values {
		if v == "NULL" {
			b = append(b, 'n')
			continue
		}
		b = binary.BigEndian.AppendUint32(append(b, 't'), uint32(len(v)))
		b = append(b, v...)
	}
	return b
}

func outboxColumns() []record.Column {
	return []record.Column{
		{Name: "id", TypeOID: 2950},
		{Name: "aggregate_type", TypeOID: 25},
		{Name: "aggregate_id", TypeOID: 25},
		{Name: "event_type", TypeOID: 25},
		{Name: "payload", TypeOID: 114},
		{Name: "headers", TypeOID: 3802},
		{Name: "traceparent", TypeOID: 25},
	}
}

func TestMessagesAreDecodedFromBytesAlone(t *testing.T) {
	t.Parallel()
	b, err := decodeBegin(beginMessage(0x16B374D848)[1:])
	if want := (begin{commitLSN: 0x16B374D848, committedAt: time.Date(2000, 1, 1, 0, 0, 5, 0, time.UTC)}); err != nil || b != want {
		t.Errorf("decodeBegin = %+v, %v, want %+v", b, err, want)
	}
	c, err := decodeCommit(commitMessage(10, 18)[1:])
	if want := (commit{commitLSN: 10, endLSN: 18}); err != nil || c != want {
		t.Errorf("decodeCommit = %+v, %v, want %+v", c, err, want)
	}
	r, err := decodeRelation(relationMessage(16384, "public", "outbox_events", outboxColumns()...)[1:])
	want := relation{oid: 16384, schema: "public", name: "outbox_events", columns: outboxColumns()}
	if diff := cmp.Diff(want, r, cmp.AllowUnexported(relation{})); err != nil || diff != "" {
		t.Errorf("decodeRelation = %v (-want +got):\n%s", err, diff)
	}
	values, err := decodeInsert(insertMessage(16384, "a", "NULL", "")[1:], nil)
	if diff := cmp.Diff([][]byte{[]byte("a"), nil, {}}, values); err != nil || diff != "" {
		t.Errorf("decodeInsert = %v (-want +got):\n%s", err, diff)
	}
}

func TestEveryCutMessageIsAnError(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		whole  []byte
		decode func([]byte) error
	}{
		"Begin":     {beginMessage(1)[1:], func(b []byte) error { _, err := decodeBegin(b); return err }},
		"Commit":    {commitMessage(1, 2)[1:], func(b []byte) error { _, err := decodeCommit(b); return err }},
		"Relation":  {relationMessage(1, "s", "t", outboxColumns()...)[1:], func(b []byte) error { _, err := decodeRelation(b); return err }},
		"Insert":    {insertMessage(1, "a", "NULL", "b")[1:], func(b []byte) error { _, err := decodeInsert(b, nil); return err }},
		"keepalive": {make([]byte, 17), func(b []byte) error { _, err := decodeKeepalive(b); return err }},
	} {
		if err := tc.decode(tc.whole); err != nil {
			t.Errorf("decode of a whole %s = %v, want no error", name, err)
		}
		for n := range tc.whole {
			if err := tc.decode(tc.whole[:n:n]); !errors.Is(err, errShort) {
				t.Errorf("decode of %d of %d bytes of %s = %v, want errShort", n, len(tc.whole), name, err)
			}
		}
		if name == "keepalive" {
			continue // later versions may add to it
		}
		if err := tc.decode(append(tc.whole[:len(tc.whole):len(tc.whole)], 0)); err == nil {
			t.Errorf("decode of %s with a byte too many = nil, want an error", name)
		}
	}
}

func TestTuplesThatNoInsertHasAreErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tuple string
		want  error
	}{
		"an unchanged value":       {"N\x00\x01u", errUnchanged},
		"a binary value":           {"N\x00\x01b\x00\x00\x00\x01x", errBinary},
		"an unknown value":         {"N\x00\x01z", nil},
		"an old tuple":             {"O\x00\x01n", nil},
		"a value of negative size": {"N\x00\x01t\xff\xff\xff\xff", errShort},
	} {
		_, err := decodeInsert([]byte("\x00\x00\x00\x01"+tc.tuple), nil)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("decodeInsert of %s = %v, want %v", name, err, tc.want)
		}
	}
}

func TestStatusUpdateBytes(t *testing.T) {
	t.Parallel()
	got := appendStatus(nil, 0x16B374D848, time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC), true)
	want := "d\x00\x00\x00\x26r" + "\x00\x00\x00\x16\xb3\x74\xd8\x48\x00\x00\x00\x16\xb3\x74\xd8\x48\x00\x00\x00\x16\xb3\x74\xd8\x48" +
		"\x00\x00\x00\x00\x00\x0f\x42\x40" + "\x01"
	if string(got) != want {
		t.Errorf("appendStatus = %x, want %x", got, want)
	}
	if got := appendStatus(nil, 1, time.Now(), false); got[len(got)-1] != 0 {
		t.Errorf("appendStatus without a question ends in %d, want 0", got[len(got)-1])
	}
}

// recorded are the messages of a real server, one a line in hexadecimal; TestRecordedStream in package pgwal_test writes them.
func recorded(t testing.TB) [][]byte {
	t.Helper()
	f, err := os.Open("testdata/stream.hex")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // only read
	var messages [][]byte
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		m, err := hex.DecodeString(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, m)
	}
	return messages
}

func FuzzMessage(f *testing.F) {
	for _, m := range recorded(f) {
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if len(src) == 0 {
			return
		}
		body := src[1:]
		_, _ = decodeBegin(body)
		_, _ = decodeCommit(body)
		_, _ = decodeRelation(body)
		_, _ = decodeKeepalive(body)
		_, _, _ = decodeData(body)
		values, err := decodeInsert(body, nil)
		if err != nil {
			return
		}
		size := 0
		for _, v := range values {
			size += len(v)
		}
		if size > len(body) {
			t.Errorf("decodeInsert gave %d bytes of %d", size, len(body))
		}
	})
}
