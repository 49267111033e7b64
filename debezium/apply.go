package debezium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

// Apply makes a configuration made by Config.Connector the running one and waits until connector and task run and have done so for
// ClientConfig.Settle. limit bounds that wait; 0 means a minute. Applying what runs already changes nothing; what failed is restarted, what
// somebody paused or stopped is resumed.
//
// A connector goes on at its own position, and one that is not there yet at that of an earlier one of its name. Where another reader may have moved the
// slot beyond that, call Create first, when it is not there, and Adopt.
//
// The error is a *RefusedError when Kafka Connect has something against the configuration, which then is not applied, and a *NotRunningError when
// the connector fails or does not run in time; the configuration then stays applied.
func (c *Client) Apply(ctx context.Context, want map[string]string, limit time.Duration) (Status, error) {
	plan, err := c.Plan(ctx, want)
	if err != nil {
		return Status{}, err
	}
	if len(plan.Problems) > 0 {
		return Status{}, &RefusedError{Problems: plan.Problems}
	}
	var before Status
	if plan.Exists {
		if before, err = c.Status(ctx, plan.Name); err != nil {
			return Status{}, err
		}
	}
	if len(plan.Changes) == 0 {
		return c.run(ctx, want, before, limit)
	}
	if err := c.call(ctx, http.MethodPut, connector(plan.Name)+"/config", want, nil); err != nil {
		return Status{}, fmt.Errorf("apply connector %s: %w", plan.Name, err)
	}
	if before.Idle() || before.Unfinished { // only now, so that nothing begins with the old configuration
		if err := c.resume(ctx, plan.Name); err != nil {
			return Status{}, err
		}
	}
	return c.await(ctx, want, before, limit)
}

// await waits until the connector runs with the configuration, or for good does not.
//
// Kafka Connect answers a change before it acts on it: the configuration is written, then read back by the workers, which restart the task and
// write its new state, and until that is read back the old state shows. So a state counts only when the tasks have the new configuration and it
// then lasts; a failure with another trace than before is new and counts at once. A pause never counts: it may be the one that was just ended.
func (c *Client) await(ctx context.Context, want map[string]string, before Status, limit time.Duration) (Status, error) {
	limit = cmp.Or(limit, time.Minute)
	start := time.Now()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last Status
	var state State
	var since time.Time
	for {
		status, err := c.configured(limited, want)
		if err == nil {
			last = status
			if now := status.overall(); now != state {
				state, since = now, time.Now()
			}
			lasted := time.Since(since) >= c.cfg.Settle
			switch {
			case state == Running && lasted:
				return last, nil
			case state == Failed && (lasted || last.failsAnew(before)):
				return last, &NotRunningError{Status: last.explained(want), Waited: time.Since(start)}
			}
			err = c.pause(limited)
		}
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return last, &NotRunningError{Status: last.explained(want), Waited: limit, TimedUp: true}
		}
		if err != nil {
			return last, fmt.Errorf("wait for connector %s: %w", want["name"], err)
		}
	}
}

// overall is one state for all parts. Stopped counts as Paused, everything on its way as Unassigned.
func (s Status) overall() State {
	switch {
	case len(s.Failed()) > 0:
		return Failed
	case s.Idle():
		return Paused
	case s.Running():
		return Running
	}
	return Unassigned
}

func (s Status) failsAnew(before Status) bool {
	var known []string
	for _, p := range before.Failed() {
		known = append(known, p.Trace)
	}
	return slices.ContainsFunc(s.Failed(), func(p Part) bool { return !slices.Contains(known, p.Trace) })
}

// configured is the status of a connector whose tasks have the wanted configuration; until they have, it has no tasks.
func (c *Client) configured(ctx context.Context, want map[string]string) (Status, error) {
	name := want["name"]
	var tasks []struct {
		Config map[string]string `json:"config"`
	}
	if err := c.call(ctx, http.MethodGet, connector(name)+"/tasks", nil, &tasks); err != nil {
		return Status{}, err
	}
	status, err := c.status(ctx, name)
	if len(tasks) == 0 {
		status.Tasks = nil
	}
	for _, task := range tasks {
		have := maps.Clone(task.Config)
		maps.DeleteFunc(have, func(key, _ string) bool { _, ok := want[key]; return !ok }) // Kafka Connect adds some of its own
		if !maps.Equal(have, want) {
			status.Tasks = nil
		}
	}
	return status, err
}
