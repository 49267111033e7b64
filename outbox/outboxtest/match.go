package outboxtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/walpost/walpost/outbox"
)

// fields is an event as text, field by field, in the order of names. anything matches every text.
type fields [7]string

var names = [len(fields{})]string{"ID", "AggregateType", "AggregateID", "Type", "Payload", "Headers", "TraceParent"}

const (
	anything = "(any)"
	null     = "NULL" // no JSON text, so no payload and no headers look like it
)

func fieldsOf(ev outbox.Event) fields {
	f := fields{anything, strconv.Quote(ev.AggregateType), strconv.Quote(ev.AggregateID), strconv.Quote(ev.Type), null, null, anything}
	if !ev.ID.IsZero() {
		f[0] = ev.ID.String()
	}
	if ev.Payload != nil {
		f[4] = string(ev.Payload)
	}
	if ev.Headers != nil {
		text, _ := json.Marshal(ev.Headers) // strings by strings always marshal
		f[5] = string(text)
	}
	if ev.TraceParent != "" {
		f[6] = strconv.Quote(ev.TraceParent)
	}
	return f
}

func (f fields) matches(got fields) bool {
	for i := range f {
		if f[i] != anything && f[i] != got[i] {
			return false
		}
	}
	return true
}

// appended is a row with what PostgreSQL tells about the order of its insertion.
type appended struct {
	fields
	statement int64 // number of the command in its transaction, savepoints included
	partition int64
}

func (a *appended) scan(rows results) error {
	var payload, headers *string
	var aggregateType, aggregateID, eventType, traceParent string
	if err := rows.Scan(&a.fields[0], &aggregateType, &aggregateID, &eventType, &payload, &headers, &traceParent, &a.statement, &a.partition); err != nil {
		return err
	}
	a.fields[1], a.fields[2], a.fields[3] = strconv.Quote(aggregateType), strconv.Quote(aggregateID), strconv.Quote(eventType)
	a.fields[4], a.fields[5], a.fields[6] = null, null, strconv.Quote(traceParent)
	if payload != nil {
		a.fields[4] = *payload
	}
	if headers == nil {
		return nil
	}
	var object any
	if err := json.Unmarshal([]byte(*headers), &object); err != nil {
		return fmt.Errorf("headers of event %s: %w", a.fields[0], err)
	}
	text, err := json.Marshal(object) // sorts the keys as fieldsOf does
	a.fields[5] = string(text)
	return err
}

// matches compares in append order. Between calls of Append that is the order of the commands. The rows of one call
// share a command and carry no number: within a partition they lie in the order of insertion, unless a page of the
// table had room left by a vacuum; then the ids that Append made, which ascend within a call, tell. Either witness
// suffices.
func matches(want []fields, got []appended) bool {
	if len(want) != len(got) {
		return false
	}
	for len(got) > 0 {
		n := len(got)
		if next := slices.IndexFunc(got, func(a appended) bool { return a.statement != got[0].statement }); next > 0 {
			n = next
		}
		byID := slices.SortedFunc(slices.Values(got[:n]), func(a, b appended) int { return cmp.Compare(a.fields[0], b.fields[0]) })
		if !merges(want[:n], byPartition(got[:n])) && !merges(want[:n], [][]appended{byID}) {
			return false
		}
		want, got = want[n:], got[n:]
	}
	return true
}

func byPartition(rows []appended) [][]appended {
	var queues [][]appended
	for i, row := range rows {
		if i == 0 || row.partition != rows[i-1].partition {
			queues = append(queues, nil)
		}
		last := len(queues) - 1
		queues[last] = append(queues[last], row)
	}
	return queues
}

// merges reports whether taking the wanted events one by one from the heads of the queues empties them.
func merges(want []fields, queues [][]appended) bool {
	for _, w := range want {
		i := slices.IndexFunc(queues, func(q []appended) bool { return len(q) > 0 && w.matches(q[0].fields) })
		if i < 0 {
			return false
		}
		queues[i] = queues[i][1:]
	}
	return true
}
