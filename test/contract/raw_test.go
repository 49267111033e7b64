package contract_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
)

// A forwarder that decodes the row's JSON strings has the columns' text byte for byte, and each aggregate's rows in order in one partition.
func TestRawRowsCarryTheColumnsText(t *testing.T) {
	t.Parallel()
	s := realStack(t)
	url := pgtest.StartServer(t).Migrated(t)
	o := outbox{t: t, pool: pgtest.Pool(t, url), eventType: "raw"}
	c := fast(t, url, createSlot(t, o.pool))
	c.Raw = true
	var rows []row
	for _, sc := range scenarios[:5] { // those about values
		rows = append(rows, sc.write(o)...)
	}
	quotes := `"` + strings.Repeat(`\"`, 400_000) + `"` // each of its bytes is two in a JSON string
	rows = append(rows, o.insert(o.pool, func(r *row) { r.payload = &quotes }))
	for i := range 100 {
		rows = append(rows, o.insert(o.pool, func(r *row) { r.aggregateID = &payloads[i%10] }))
	}
	o.exec(`delete from outbox_events`)
	s.apply(t, c)
	reader := s.reader(t, c.RawTopic())
	reader.read(len(rows))

	// The forwarder makes of each row the record that a relay makes.
	events := make(map[string]seen)
	for i, event := range wantOf(t, record.Mapping{}, rows) {
		events[rows[i].id] = event
	}
	decoder, err := record.NewRowDecoder(record.Mapping{})
	if err != nil {
		t.Fatal(err)
	}
	want, got := make(map[string][][]byte), make(map[string][][]byte) // by aggregate, in order
	for _, r := range rows {
		want[*r.aggregateID] = append(want[*r.aggregateID], bytes.Join(r.values(), []byte{0}))
	}
	partitions := make(map[string]int32)
	for _, published := range reader.records[c.RawTopic()] {
		var columns map[string]*string
		if err := json.Unmarshal(published.Value, &columns); err != nil {
			t.Fatalf("value %.200s: %v", published.Value, err)
		}
		if event, err := decoder.Decode(published.Value); err != nil {
			t.Errorf("Decode(%.200s) = %v, want no error", published.Value, err)
		} else if diff := cmp.Diff(events[event.ID()], seenOf(partitioned(event))); diff != "" {
			t.Errorf("record of row %s (-of the relay +of the forwarder):\n%.2000s", event.ID(), diff)
		}
		r := row{
			id: *columns["id"], aggregateType: columns["aggregate_type"], aggregateID: columns["aggregate_id"], eventType: columns["event_type"],
			payload: columns["payload"], headers: columns["headers"], traceParent: columns["traceparent"],
		}
		key := *r.aggregateID
		got[key] = append(got[key], bytes.Join(r.values(), []byte{0}))
		if before, ok := partitions[key]; ok && before != published.Partition {
			t.Errorf("rows of %q are in partitions %d and %d, want one", key, before, published.Partition)
		}
		partitions[key] = published.Partition
		if *columns["created_at"] == "" {
			t.Errorf("row %s has no created_at", r.id)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("columns by aggregate, in order (-written +published):\n%.4000s", diff)
	}
}
