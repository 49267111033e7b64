package e2e_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/record"
)

// check compares the topics with the table: record by record, byte by byte, each key in the order of the commits.
func (s *twoHops) check(t *testing.T) (result forwardResult) {
	t.Helper()
	want := s.events(t)
	result.rows = len(want)
	seen, order := make(map[string]int), make(map[string]string)
	for _, topic := range append(slices.Clone(forwardTopics), registrationTopic) {
		records, commits, aborts := committed(t, s.brokers, topic)
		result.commits, result.aborts = result.commits+commits, result.aborts+aborts
		for _, r := range records {
			id := ""
			for _, h := range r.Headers {
				if h.Key == record.HeaderID {
					id = string(h.Value)
				}
			}
			seen[id]++
			event, ok := want[id]
			if !ok {
				t.Errorf("event %q in topic %s is in no row", id, topic)
				continue
			}
			if diff := cmp.Diff(event, recordOf(r)); diff != "" && seen[id] == 1 {
				t.Errorf("event %s differs from its row (-row +topic):\n%s", id, diff)
			}
			if key := topic + string(r.Key); topic != registrationTopic { // ids of one writer grow; the API has many
				if id <= order[key] {
					t.Errorf("topic %s, key %s: %s came after %s", topic, r.Key, id, order[key])
				}
				order[key] = id
			}
		}
	}
	for id := range want {
		switch seen[id] {
		case 0:
			result.lost++
		case 1:
			result.once++
		default:
			result.doubled++
		}
	}
	if result.lost+result.doubled > 0 {
		t.Errorf("of %d rows %d were lost and %d doubled", result.rows, result.lost, result.doubled)
	}
	if ends, err := s.admin.ListEndOffsets(t.Context(), "eventdriven-examples.dlq"); err != nil {
		t.Error(err)
	} else {
		ends.Each(func(o kadm.ListedOffset) {
			if o.Offset != 0 {
				t.Errorf("the dead-letter topic has %d records in partition %d, want none", o.Offset, o.Partition)
			}
		})
	}
	return result
}

// events are what package record makes of the table's rows, by id.
func (s *twoHops) events(t *testing.T) map[string]record.Record {
	t.Helper()
	conn, err := s.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	// The simple protocol gives text, as the publication does.
	results, err := conn.Conn().PgConn().Exec(t.Context(), `select * from outbox_events`).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var columns []record.Column
	for _, field := range results[0].FieldDescriptions {
		columns = append(columns, record.Column{Name: field.Name, TypeOID: field.DataTypeOID})
	}
	encoder, err := record.Mapping{}.Resolve(columns)
	if err != nil {
		t.Fatal(err)
	}
	events := make(map[string]record.Record)
	for _, values := range results[0].Rows {
		rec, err := encoder.Encode(values)
		if err != nil {
			t.Fatal(err)
		}
		events[rec.ID()] = rec
	}
	return events
}

func recordOf(r *kgo.Record) record.Record {
	rec := record.Record{Topic: r.Topic, Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		rec.Headers = append(rec.Headers, record.Header(h))
	}
	return rec
}

// committed reads a topic to its end, committed records only, and counts the markers of transactions.
func committed(t *testing.T, brokers, topic string) (records []*kgo.Record, commits, aborts int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers), kgo.ConsumeTopics(topic), kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ends, err := kadm.NewClient(client).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	left := make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(left) > 0 {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			switch {
			case !r.Attrs.IsControl():
				records = append(records, r)
			case len(r.Key) >= 4 && r.Key[3] == 1: // the marker's key: version, then type
				commits++
			default:
				aborts++
			}
		})
		if ctx.Err() != nil {
			t.Fatalf("topic %s: not read to its end within %v, a transaction is open; ends not reached by partition: %v", topic, patience, left)
		}
	}
	return records, commits, aborts
}
