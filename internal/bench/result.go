package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// RelayResults is what RunRelay found: every measurement, not their summary.
type RelayResults struct {
	About       About        `json:"about"`
	Rows        int          `json:"rows"`
	Rates       []int        `json:"rates"`
	Seconds     float64      `json:"seconds"` // of a measurement of latency
	Repeats     int          `json:"repeats"`
	Contestants []Contestant `json:"contestants"`
	Drains      []Drain      `json:"drains"`
	Latencies   []Latency    `json:"latencies"`
	Alone       []Alone      `json:"alone,omitempty"`
	AloneWarm   float64      `json:"alone_warm,omitempty"` // seconds of single events before those that were measured; earlier runs had none
	HugeRows    int          `json:"huge_rows,omitempty"`
	Huge        []Drain      `json:"huge,omitempty"` // of one transaction of so many rows
}

// PathResults is what RunPath found.
type PathResults struct {
	About       About        `json:"about"`
	Clients     int          `json:"clients"`
	Seconds     float64      `json:"seconds"`
	Repeats     int          `json:"repeats"`
	Contestants []Contestant `json:"contestants"`
	Paths       []Path       `json:"paths"`
}

// About says when, where and how a run was made.
type About struct {
	Began    time.Time         `json:"began"`
	Minutes  float64           `json:"minutes"`
	Command  string            `json:"command"` // that makes such a run again
	Machine  Machine           `json:"machine"`
	Disks    Disks             `json:"disks"`
	Busy     float64           `json:"busy"`     // share of the processors that was taken before anything was started
	Settings map[string]string `json:"settings"` // of the servers, those that were set for the run
}

// Disks are the file systems that the servers' data was on.
type Disks struct {
	Postgres string `json:"postgres"`
	Kafka    string `json:"kafka"`
}

// Contestant is who was measured.
type Contestant struct {
	Name     string            `json:"name"`  // as in --against
	Label    string            `json:"label"` // for a person
	What     string            `json:"what"`  // one sentence
	Settings map[string]string `json:"settings,omitempty"`
}

// Count accounts for the events of a measurement by their ids.
type Count struct {
	Written    int `json:"written"`
	Seen       int `json:"seen"` // at least once
	Lost       int `json:"lost"`
	Doubled    int `json:"doubled"`    // records beyond the first of their event
	Disordered int `json:"disordered"` // records behind a later one of their key
	Foreign    int `json:"foreign"`    // records that nobody wrote, or not so
}

// Use is what a process took: processor time during the measurement, and the most memory it held.
type Use struct {
	Process    string  `json:"process"`
	CPUSeconds float64 `json:"cpu_seconds"`
	PeakMiB    float64 `json:"peak_mib"`
}

// Names of processes in Use.
const (
	ProcessRelay     = "relay"     // the contestant's own; of Debezium the worker of Kafka Connect
	ProcessWalsender = "walsender" // PostgreSQL's, which reads the log for the contestant
	ProcessPostgres  = "postgres"  // the rest of the server
	ProcessKafka     = "kafka"
	ProcessBench     = "bench"  // writes and observes
	ProcessOther     = "other"  // whatever else ran on the machine
	ProcessStolen    = "stolen" // no process: what the host gave to other machines while something here wanted to run
)

// Drain is one backlog, drained once.
type Drain struct {
	Contestant string  `json:"contestant"`
	Round      int     `json:"round"`
	Count      Count   `json:"count"`
	Start      float64 `json:"start_seconds"` // from the start of the contestant to the first event
	Rows       int     `json:"rows"`          // in the time measured: those after the first fetch of the consumer
	Seconds    float64 `json:"seconds"`       // from that first fetch to the last event
	Rate       float64 `json:"rate"`          // rows a second
	Use        []Use   `json:"use"`
}

// Latency is one rate, held for some seconds.
type Latency struct {
	Contestant string  `json:"contestant"`
	Round      int     `json:"round"`
	Rate       int     `json:"rate"`     // asked for, a second
	Achieved   float64 `json:"achieved"` // by the writers
	Count      Count   `json:"count"`    // of all events of the contestant's round up to here
	Measured   int     `json:"measured"`
	Early      int     `json:"early"`  // seen before their writer had the answer to its commit; they count as 0 ms
	Behind     int     `json:"behind"` // events written but not seen yet when the writers stopped
	Curve      Curve   `json:"curve"`  // from the return of the commit to the consumer
	Use        []Use   `json:"use"`
}

// Path is one run of the whole application.
type Path struct {
	Contestant    string           `json:"contestant"`
	Round         int              `json:"round"`
	Registrations int              `json:"registrations"` // answered in the time measured
	Mails         int              `json:"mails"`         // accepted in the time measured
	Rate          float64          `json:"rate"`          // mails a second
	Lost          int              `json:"lost"`          // registrations without a mail
	Doubled       int              `json:"doubled"`       // mails beyond the first of their registration
	Hops          map[string]Curve `json:"hops"`
	Use           []Use            `json:"use"`
}

// Hops of a Path, in order; HopAll is from the request to the mail.
const (
	HopRequest = "request"   // POST sent -> transaction committed, the password's hash included
	HopPublish = "published" // committed -> seen in the topic
	HopApply   = "applied"   // seen in the topic -> the consumer's transaction committed
	HopMail    = "mailed"    // applied -> accepted by the mail server
	HopAll     = "all"
)

func writeResults(dir, name string, results any) error {
	text, err := json.MarshalIndent(results, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), append(text, '\n'), 0o644)
}

func readResults(dir, name string, results any) error {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, results); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return nil
}
