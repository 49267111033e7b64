package record_test

import (
	"fmt"

	"github.com/walpost/walpost/record"
)

// An existing outbox whose columns have other names, routed by aggregate type as Debezium does by default.
func ExampleMapping() {
	mapping := record.Mapping{Key: "aggregateid", Placed: []string{"type:event_type"}, Topic: "outbox.event.${aggregatetype}"}
	encoder, err := mapping.Resolve([]record.Column{
		{Name: "id", TypeOID: 2950}, {Name: "aggregatetype", TypeOID: 25}, {Name: "aggregateid", TypeOID: 25}, {Name: "type", TypeOID: 25}, {Name: "payload", TypeOID: 114},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	row := [][]byte{[]byte("0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001"), []byte("order"), []byte("42"), []byte("order.paid"), []byte(`{"total": 12}`)}
	rec, err := encoder.Encode(row)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s %s=%s\n", rec.Topic, rec.Key, rec.Value)

	m, err := record.Decode(rec.Key, rec.Value, rec.Headers)
	fmt.Println(m.ID, m.Type, err)
	// Output:
	// outbox.event.order 42={"total": 12}
	// 0199a0c5-7a30-7f2a-9d52-0d4f3a3f0001 order.paid <nil>
}
