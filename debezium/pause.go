package debezium

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/walpost/walpost/record"
)

// Resume brings a connector to run as it is configured: it resumes what was stopped or paused, restarts what failed, and waits as Apply does, with
// the same errors. What runs already is left alone.
//
// It goes on at its own position. Where another reader has moved its slot beyond that meanwhile, call Adopt first.
func (c *Client) Resume(ctx context.Context, name string, limit time.Duration) (Status, error) {
	status, err := c.Status(ctx, name)
	if err != nil {
		return Status{}, err
	}
	config, err := c.finish(ctx, name)
	if err != nil {
		return Status{}, fmt.Errorf("resume connector %s: %w", name, err)
	}
	return c.run(ctx, config, status, limit)
}

// run resumes and restarts what needs it, and waits.
func (c *Client) run(ctx context.Context, config map[string]string, before Status, limit time.Duration) (Status, error) {
	if before.Running() {
		return before, nil
	}
	if before.Idle() || before.Unfinished {
		if err := c.resume(ctx, before.Name); err != nil {
			return Status{}, err
		}
	}
	if _, err := c.restart(ctx, before); err != nil {
		return Status{}, err
	}
	return c.await(ctx, config, before, limit)
}

func (c *Client) resume(ctx context.Context, name string) error {
	if err := c.call(ctx, http.MethodPut, connector(name)+"/resume", nil, nil); err != nil {
		return fmt.Errorf("resume connector %s: %w", name, err)
	}
	return nil
}

// Stop stops a connector and waits, until ctx ends, for its tasks to be gone: its position is written and its slot free for another reader. It stays
// stopped, over restarts of the workers too, until Resume or Apply. Stopping what is stopped does nothing.
//
// It needs Kafka Connect 3.5 or newer. A pause is no substitute: a paused task keeps its slot.
func (c *Client) Stop(ctx context.Context, name string) (Status, error) {
	if err := c.call(ctx, http.MethodPut, connector(name)+"/stop", nil, nil); err != nil {
		return Status{}, fmt.Errorf("stop connector %s: %w", name, err)
	}
	for {
		status, err := c.Status(ctx, name)
		if err != nil {
			return Status{}, err
		}
		if status.Connector.State == Stopped && len(status.Tasks) == 0 {
			if status.Unfinished { // from now on somebody has stopped it
				_, err = c.finish(ctx, name)
				status.Unfinished = err != nil // without PostgreSQL no configuration is taken: then a watcher would still go on with it, nothing worse
			}
			return status, nil
		}
		if err := c.pause(ctx); err != nil {
			return status, fmt.Errorf("wait for connector %s to stop, of which %d tasks are left: %w", name, len(status.Tasks), err)
		}
	}
}

// Adopt lets a stopped connector go on where its slot stands, when another reader has brought the slot further than the connector has come; confirmed is
// the slot's confirmed_flush_lsn. It reports whether that was so, and otherwise changes nothing.
//
// Debezium would compare its position with the slot's restart_lsn: begin as if nothing were while that is behind, and refuse to as soon as it is not. It
// cannot know whether what lies in between was published; whoever calls Adopt says that it was. By itself the slot never passes the connector's
// position, which is written first.
//
// It needs Kafka Connect 3.6 or newer.
func (c *Client) Adopt(ctx context.Context, name string, confirmed record.LSN) (bool, error) {
	var answer struct {
		Offsets []struct {
			Offset struct {
				Event     record.LSN `json:"lsn"`
				Processed record.LSN `json:"lsn_proc"`
				Commit    record.LSN `json:"lsn_commit"`
			} `json:"offset"`
		} `json:"offsets"`
	}
	path := connector(name) + "/offsets"
	if err := c.call(ctx, http.MethodGet, path, nil, &answer); err != nil {
		return false, fmt.Errorf("position of connector %s: %w", name, err)
	}
	if len(answer.Offsets) == 0 {
		return false, nil // it has none, and begins where the slot stands anyway
	}
	for _, o := range answer.Offsets {
		if max(o.Offset.Event, o.Offset.Processed, o.Offset.Commit) >= confirmed {
			return false, nil
		}
	}
	if err := c.call(ctx, http.MethodDelete, path, nil, nil); err != nil {
		return false, fmt.Errorf("reset the position of connector %s: %w", name, err)
	}
	return true, nil
}
