package chaos

import (
	"bufio"
	"encoding/json"
	"os"
	"time"

	"github.com/walpost/walpost/record"
)

// History is what there is to judge about a run.
type History struct {
	Committed []Event  // by the oracle
	Records   []Record // that a consumer of committed records finds in the end, by topic, partition and offset
	Seen      []Record // what a consumer that read along was given, in its order within each partition
	All       []Record // that a consumer of everything finds in the end, in the order of Records
	Marks     []Mark   // committed ones, by offset
	Exits     []Exit   // relays that ended by themselves
	Undrained string   // why the relay did not get through in the end; empty: it did
}

// Event is an event that was committed.
type Event struct {
	ID      string `json:"id"`
	Topic   string `json:"topic"`
	Key     string `json:"key"`     // the aggregate
	Version int64  `json:"version"` // of the aggregate, from 1, one more with each event
	Sum     uint64 `json:"sum"`     // of the payload: see sum
}

// Record is a record of a topic.
type Record struct {
	Topic     string          `json:"topic"`
	Partition int32           `json:"partition"`
	Offset    int64           `json:"offset"`
	Txn       Txn             `json:"txn"`
	Aborted   bool            `json:"aborted,omitempty"` // by the marker that ended its transaction; only known of History.All
	ID        string          `json:"id"`
	Key       string          `json:"key"`
	Version   int64           `json:"version"` // that the record itself claims
	Position  record.Position `json:"position"`
	Sum       uint64          `json:"sum"`
}

// Txn tells one Kafka transaction from another: with transaction.version 2 each has an epoch of its own.
type Txn struct {
	Producer int64 `json:"producer"`
	Epoch    int16 `json:"epoch"`
}

// Mark is a watermark of the relay's slot.
type Mark struct {
	Offset   int64           `json:"offset"`
	Txn      Txn             `json:"txn"`
	Position record.Position `json:"position"`
	EventID  string          `json:"event_id"`
	End      record.LSN      `json:"end"`
}

// Exit is a relay that ended and had not been told to.
type Exit struct {
	Relay  int    `json:"relay"`
	Cause  string `json:"cause"`            // of its halt; empty: it did not halt
	Last   string `json:"last"`             // line that it printed
	Excuse string `json:"excuse,omitempty"` // the fault that justifies it; empty: nothing does
}

// happened is a fault as it was carried out.
type happened struct {
	Fault
	At   time.Duration `json:"at"` // since the run began
	Took time.Duration `json:"took"`
	Seen int           `json:"seen"` // records that the consumer had been given by then
}

// save writes the history as lines of JSON, each with what it is.
func (h *History) save(file string, faults []happened) (err error) {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(out)
	encoder := json.NewEncoder(buffered)
	line := func(kind string, value any) {
		if err == nil {
			err = encoder.Encode(map[string]any{kind: value})
		}
	}
	lines(line, "fault", faults)
	lines(line, "exit", h.Exits)
	lines(line, "committed", h.Committed)
	lines(line, "mark", h.Marks)
	lines(line, "record", h.Records)
	lines(line, "seen", h.Seen)
	lines(line, "all", h.All)
	if h.Undrained != "" {
		line("undrained", h.Undrained)
	}
	if err == nil {
		err = buffered.Flush()
	}
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}

func lines[T any](line func(string, any), kind string, list []T) {
	for i := range list {
		line(kind, &list[i])
	}
}
