package debezium

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// State is the state of a connector or of a task, in Kafka Connect's words.
type State string

// The states that matter here; there are RESTARTING and DESTROYED besides.
const (
	Running    State = "RUNNING"
	Failed     State = "FAILED" // for ever: Kafka Connect never restarts it by itself
	Paused     State = "PAUSED"
	Stopped    State = "STOPPED"
	Unassigned State = "UNASSIGNED" // no worker has it yet
)

// Part is a connector itself or one of its tasks.
type Part struct {
	Task        int          `json:"id"` // -1: the connector itself
	State       State        `json:"state"`
	Worker      string       `json:"worker_id"`
	Trace       string       `json:"trace,omitempty"`       // of the failure
	Explanation *Explanation `json:"explanation,omitempty"` // of a part that failed
}

func (p Part) name() string {
	if p.Task < 0 {
		return "connector"
	}
	return fmt.Sprintf("task %d", p.Task)
}

// Status is what Kafka Connect says about a connector. RUNNING is its word and no proof: while Debezium tries to reach a database that is
// away, and while a producer waits for a topic, it says so too. What flows is seen at the slot (`walpost slot status`).
type Status struct {
	Name      string `json:"name"`
	Connector Part   `json:"connector"`
	Tasks     []Part `json:"tasks"`

	// Unfinished says that Create has made it and nobody has let it go on since: it is STOPPED, or will be as soon as a worker has it, by nobody's wish.
	Unfinished bool `json:"unfinished,omitempty"`
}

// Running reports whether the connector and at least one task run, and none does otherwise.
func (s Status) Running() bool {
	return s.Connector.State == Running && len(s.Tasks) > 0 &&
		!slices.ContainsFunc(s.Tasks, func(p Part) bool { return p.State != Running })
}

// Idle reports whether the connector is paused or stopped: by somebody, unless it is Unfinished.
func (s Status) Idle() bool { return s.Connector.State == Paused || s.Connector.State == Stopped }

// Failed are the parts that failed.
func (s Status) Failed() []Part {
	var failed []Part
	for _, p := range s.parts() {
		if p.State == Failed {
			failed = append(failed, p)
		}
	}
	return failed
}

func (s Status) parts() []Part { return append([]Part{s.Connector}, s.Tasks...) }

// String is a line for each part, and below one that does not run what to do.
func (s Status) String() string {
	var b strings.Builder
	for _, p := range s.parts() {
		fmt.Fprintf(&b, "%s %s", p.name(), p.State)
		if p.Worker != "" {
			fmt.Fprintf(&b, " on %s", p.Worker)
		}
		b.WriteByte('\n')
		if p.Explanation != nil {
			b.WriteString("  " + strings.ReplaceAll(p.Explanation.String(), "\n", "\n  ") + "\n")
		}
	}
	switch {
	case s.Unfinished:
		b.WriteString("  It was made, and has not been let go on since: run `walpost connector apply`\n")
	case s.Idle():
		b.WriteString("  Somebody paused or stopped it: run `walpost connector resume`\n")
	case len(s.Tasks) == 0:
		b.WriteString("no task yet\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Status asks for a connector's state, explains what failed and says whose wish it is that it is stopped.
func (c *Client) Status(ctx context.Context, name string) (Status, error) {
	status, err := c.status(ctx, name)
	if err != nil {
		return Status{}, fmt.Errorf("status of connector %s: %w", name, err)
	}
	early := status.Connector.State == Stopped || status.Connector.State == Unassigned
	if len(status.Failed()) == 0 && !early {
		return status, nil
	}
	config, err := c.config(ctx, name)
	if err != nil {
		return Status{}, fmt.Errorf("status of connector %s: %w", name, err)
	}
	status.Unfinished = early && config[unfinished] != ""
	return status.explained(config), nil
}

func (s Status) explained(config map[string]string) Status {
	explain := func(p Part) Part {
		if p.State == Failed {
			e := Explain(p.Trace, config)
			p.Explanation = &e
		}
		return p
	}
	s.Connector = explain(s.Connector)
	s.Tasks = slices.Clone(s.Tasks)
	for i, p := range s.Tasks {
		s.Tasks[i] = explain(p)
	}
	return s
}

// status is without explanations. A connector has a configuration before it has a status: until then it is unassigned.
func (c *Client) status(ctx context.Context, name string) (Status, error) {
	status := Status{Name: name}
	err := c.call(ctx, http.MethodGet, connector(name)+"/status", nil, &status)
	if errors.Is(err, ErrNotFound) {
		if _, err := c.config(ctx, name); err != nil {
			return Status{}, err
		}
		status.Connector.State, err = Unassigned, nil
	}
	status.Connector.Task = -1
	return status, err
}

// Config is a connector's configuration as Kafka Connect has stored it: what stands in it as a secret itself is not masked.
func (c *Client) Config(ctx context.Context, name string) (map[string]string, error) {
	config, err := c.config(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("configuration of connector %s: %w", name, err)
	}
	return config, nil
}

func (c *Client) config(ctx context.Context, name string) (map[string]string, error) {
	var config map[string]string
	err := c.call(ctx, http.MethodGet, connector(name)+"/config", nil, &config)
	return config, err
}

// Restart restarts the parts of a connector that failed, and none else, and returns them as they were; it does not wait for their success.
func (c *Client) Restart(ctx context.Context, name string) ([]Part, error) {
	status, err := c.Status(ctx, name)
	if err != nil {
		return nil, err
	}
	return c.restart(ctx, status)
}

func (c *Client) restart(ctx context.Context, status Status) ([]Part, error) {
	failed := status.Failed()
	if len(failed) == 0 {
		return nil, nil
	}
	if err := c.call(ctx, http.MethodPost, connector(status.Name)+"/restart?includeTasks=true&onlyFailed=true", nil, nil); err != nil {
		return nil, fmt.Errorf("restart connector %s: %w", status.Name, err)
	}
	return failed, nil
}

// Remains is what stays after a connector was deleted.
type Remains struct {
	Slot        string `json:"slot"`
	Publication string `json:"publication"`
	Database    string `json:"database"`
	Offsets     string `json:"offsets"` // the name under which Kafka Connect keeps the position
}

// String says what stays, why that matters and how to remove it.
func (r Remains) String() string {
	return fmt.Sprintf(`slot %[1]s of database %[2]s stays, and PostgreSQL keeps its log for it until another reader takes it or it is dropped: walpost slot drop --slot %[1]s
publication %[3]s of database %[2]s stays
the position of connector %[4]s stays in Kafka Connect: walpost connector apply makes one that goes on from there, or from where another has read the slot since`, r.Slot, r.Database, r.Publication, r.Offsets)
}

// Delete removes a connector and says what it leaves behind: nothing in PostgreSQL is touched.
func (c *Client) Delete(ctx context.Context, name string) (Remains, error) {
	config, err := c.config(ctx, name)
	if err == nil {
		err = c.call(ctx, http.MethodDelete, connector(name), nil, nil)
	}
	if err != nil {
		return Remains{}, fmt.Errorf("delete connector %s: %w", name, err)
	}
	return Remains{
		Slot: config["slot.name"], Publication: config["publication.name"], Database: config["database.dbname"], Offsets: name,
	}, nil
}
