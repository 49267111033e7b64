package debezium

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"
)

// unfinished is a setting of no meaning to Debezium. It marks a connector that Create has made and that has not been let go on since: whoever finds one
// knows that nobody has stopped it, but that something came between. Apply and Resume take it away just before they resume, and so does Stop.
const unfinished = "walpost.apply"

// Create makes a connector that is not there yet, of a configuration made by Config.Connector, and lets it begin nothing: it is STOPPED, and Unfinished.
// Kafka Connect may remember a position of an earlier connector of its name, behind which another reader has moved the slot since; so call Adopt next, and
// then Apply, which lets it go on. limit bounds the wait until a worker has taken it; 0 means a minute.
//
// The error is a *RefusedError when Kafka Connect has something against the configuration, and a *NotRunningError when no worker takes the connector in
// time, which then stays. It matches ErrOutdated when Kafka Connect is older than 3.7 and cannot do it: nothing is made, and only Apply can.
func (c *Client) Create(ctx context.Context, want map[string]string, limit time.Duration) (Status, error) {
	name := want["name"]
	problems, err := c.problems(ctx, want)
	if err != nil {
		return Status{}, fmt.Errorf("create connector %s: %w", name, err)
	}
	if len(problems) > 0 {
		return Status{}, &RefusedError{Problems: problems}
	}
	config := maps.Clone(want)
	config[unfinished] = "unfinished"
	request := map[string]any{"name": name, "config": config, "initial_state": Stopped}
	err = c.call(ctx, http.MethodPost, "/connectors", request, nil)
	var answer *ResponseError
	if errors.As(err, &answer) && strings.Contains(answer.Message, `Unrecognized field "initial_state"`) {
		return Status{}, fmt.Errorf("create connector %s: %w", name, ErrOutdated)
	}
	if err != nil {
		return Status{}, fmt.Errorf("create connector %s: %w", name, err)
	}
	return c.awaitCreated(ctx, name, cmp.Or(limit, time.Minute))
}

// awaitCreated waits for the first status, before which a worker may not even know that there is such a connector.
func (c *Client) awaitCreated(ctx context.Context, name string, limit time.Duration) (Status, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	last := Status{Name: name, Connector: Part{Task: -1, State: Unassigned}}
	for {
		status, err := c.Status(limited, name)
		switch {
		case err == nil && status.Connector.State != Unassigned: // STOPPED, unless another has let it go on meanwhile
			return status, nil
		case err == nil:
			last = status
		}
		if err == nil || errors.Is(err, ErrNotFound) {
			err = c.pause(limited)
		}
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return last, &NotRunningError{Status: last, Waited: limit, TimedUp: true}
		}
		if err != nil {
			return last, fmt.Errorf("wait for connector %s: %w", name, err)
		}
	}
}

// finish takes the mark of Create away and returns the configuration that remains.
func (c *Client) finish(ctx context.Context, name string) (map[string]string, error) {
	config, err := c.config(ctx, name)
	if err != nil || config[unfinished] == "" {
		return config, err
	}
	delete(config, unfinished)
	return config, c.call(ctx, http.MethodPut, connector(name)+"/config", config, nil)
}
