package devstack_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/outbox"
	"github.com/walpost/walpost/record"
)

func TestTheStatusFollowsAnEventThroughItsStations(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	id := w.append(t, `{"n": 1}`)
	state := func(want devstack.State) devstack.Event {
		t.Helper()
		return w.eventually(t, "the event is "+string(want), func(st devstack.Status) bool {
			return len(st.Events) == 1 && st.Events[0].State == want
		}).Events[0]
	}
	if e := state(devstack.Appended); e.TotalMillis != nil || e.Topic != "" || *e.Payload != `{"n": 1}` {
		t.Errorf("appended event = %+v", e)
	}
	rec := w.publish(t, id, topic)
	e := state(devstack.Published)
	if e.Topic != topic || e.Partition != rec.Partition || e.Offset != rec.Offset || e.LSN != "0/1A2B" || e.Copies != 1 || e.CommittedAt == nil {
		t.Errorf("published event = %+v, want it at %s-%d@%d", e, topic, rec.Partition, rec.Offset)
	}
	w.apply(t, id, "sent", "SENT")
	send(t, w.mails, "Subject: Welcome\r\nMessage-ID: <"+id.String()+"@walpost.example>\r\n\r\nHello\r\n")
	e = state(devstack.Delivered)
	if e.MailState != "sent" || e.Recipient != "ada@example.com" || e.Notification != "SENT" || e.TotalMillis == nil || *e.TotalMillis <= 0 {
		t.Errorf("delivered event = %+v", e)
	}
	st := w.eventually(t, "the mail is linked", func(st devstack.Status) bool { return st.Events[0].MailNumber == 1 })
	got := []int64{st.Counts.Registrations, st.Counts.OutboxRows, st.Kafka.Records, st.Counts.Applied, st.Counts.Sent, int64(st.Mails), st.Kafka.DeadLetters}
	if diff := cmp.Diff([]int64{1, 1, 1, 1, 1, 1, 0}, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	for _, path := range []string{"/", "/events/" + id.String(), "/mails", "/mails/1"} {
		if code, body, _ := w.get(t, path); code != http.StatusOK || !strings.Contains(body, "/live.js") && path != "/mails/1" {
			t.Errorf("GET %s = %d", path, code)
		}
	}
}

func TestForeignIDsDoNotHideNewEvents(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	w.exec(t, `insert into outbox_events (id, aggregate_id, event_type, created_at)
		select ('ffffffff-ffff-4fff-8fff-' || lpad(n::text, 12, '0'))::uuid, 'a', 'b', now() - interval '1 hour' from generate_series(1, 60) n`)
	newest := w.append(t, `{}`)
	st := w.status(t)
	if len(st.Events) != 50 || st.Events[0].ID != newest.String() {
		t.Errorf("first of %d events = %s, want %s", len(st.Events), st.Events[0].ID, newest)
	}
	w.exec(t, `insert into outbox_events (id, aggregate_id, event_type, created_at) values ('00000000-0000-4000-8000-000000000001', 'a', 'b', now() + interval '1 second')`)
	if st := w.status(t); st.Events[0].ID != "00000000-0000-4000-8000-000000000001" {
		t.Errorf("first event = %s, want the one with a random id that was appended last", st.Events[0].ID)
	}
}

func TestALargePayloadIsCut(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	id := w.append(t, `"`+strings.Repeat("x", 200_000)+`"`)
	if got := len(*w.status(t).Events[0].Payload); got != 300 {
		t.Errorf("payload in the list = %d characters, want 300", got)
	}
	_, body, _ := w.get(t, "/events/"+id.String())
	if n := strings.Count(body, "x"); n < 65_000 || n > 66_000 || !strings.Contains(body, "its beginning") {
		t.Errorf("payload of 200 kB on its page = about %d characters, want 65,536 and a word that it is cut", n)
	}
}

func TestTheSlotsVerdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		slot    devstack.Slot
		want    string
		healthy bool
	}{
		{"none", devstack.Slot{Name: "walpost"}, "There is no slot walpost yet: the relay makes it when it first connects.", false},
		{"read", devstack.Slot{Active: true, WALStatus: "reserved", Confirmed: "0/1A2B", Behind: 56}, "The relay reads and has confirmed the log up to 0/1A2B.", true},
		{"behind", devstack.Slot{Active: true, WALStatus: "extended", Behind: 12_345_678}, "The relay reads and is 12 MB of log behind.", true},
		{"idle", devstack.Slot{WALStatus: "reserved", Retained: 123_456}, "Nobody reads the slot: the relay is not connected, and PostgreSQL keeps 123 kB of log for it.", false},
		{"in danger", devstack.Slot{Active: true, WALStatus: "unreserved", Behind: 9_999}, "The relay reads, but the slot may soon lose log: it is 9999 B behind.", false},
		{"lost", devstack.Slot{WALStatus: "lost"}, "The slot has lost log that the relay still needs: events are missing, start anew with walpost dev --reset.", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.slot.Verdict(); got != tt.want {
				t.Errorf("Verdict() = %q, want %q", got, tt.want)
			}
			if got := tt.slot.Healthy(); got != tt.healthy {
				t.Errorf("Healthy() = %t, want %t", got, tt.healthy)
			}
		})
	}
}

func TestThePlacesOfOldEventsAreForgotten(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	first := w.append(t, nil)
	w.publish(t, first, topic)
	w.eventually(t, "the first event is read", func(st devstack.Status) bool { return st.Events[0].Topic != "" })
	var flood []*kgo.Record
	for range 10_000 {
		flood = append(flood, &kgo.Record{Topic: topic, Headers: []kgo.RecordHeader{{Key: record.HeaderID, Value: []byte(outbox.NewID().String())}}})
	}
	if err := client(t, w.broker.Addr()).ProduceSync(t.Context(), flood...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, fmt.Sprintf("event %s is forgotten", first), func(st devstack.Status) bool { return st.Events[0].Topic == "" })
}

// A topic holds more than events when they are published in transactions.
func TestMarkersAndWatermarksAreNoRecords(t *testing.T) {
	t.Parallel()
	w := setupPage(t)
	const marks = "outbox.relay.watermarks"
	if err := w.broker.CreateTopic(marks, nil); err != nil {
		t.Fatal(err)
	}
	producer := client(t, w.broker.Addr(), kgo.TransactionalID("relay"))
	for _, end := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit, kgo.TryCommit} {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		records := []*kgo.Record{{Topic: topic, Key: []byte("k")}, {Topic: topic, Key: []byte("other")}, {Topic: marks}}
		if err := producer.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	want := []devstack.TopicSize{{Topic: deadLetters, Partitions: 3}, {Topic: topic, Partitions: 3, Records: 6}}
	w.eventually(t, fmt.Sprintf("the topics are %v", want), func(st devstack.Status) bool { return cmp.Equal(st.Kafka.Topics, want) })
}
