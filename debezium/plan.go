package debezium

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Plan is what applying a configuration would change, and what Kafka Connect has against it.
type Plan struct {
	Name     string    `json:"name"`
	Exists   bool      `json:"exists"`   // there is a connector of that name
	Changes  []Change  `json:"changes"`  // by setting; none: it is as wanted
	Problems []Problem `json:"problems"` // for which Kafka Connect refuses the configuration
}

// Change is a setting that differs. Secrets are masked, references to them are not.
type Change struct {
	Setting string  `json:"setting"`
	Have    *string `json:"have"` // nil: not set
	Want    *string `json:"want"` // nil: to be removed
}

// String is + for a setting that is new, - for one that goes, ~ for one that changes.
func (c Change) String() string {
	switch {
	case c.Have == nil:
		return fmt.Sprintf("+ %s = %s", c.Setting, *c.Want)
	case c.Want == nil:
		return fmt.Sprintf("- %s = %s", c.Setting, *c.Have)
	}
	return fmt.Sprintf("~ %s = %s -> %s", c.Setting, *c.Have, *c.Want)
}

// Problem is a setting that Kafka Connect, or Debezium after trying the connection to PostgreSQL, refuses.
type Problem struct {
	Setting     string       `json:"setting"` // "": the configuration as a whole
	Message     string       `json:"message"`
	Explanation *Explanation `json:"explanation,omitempty"` // nil: the message says all that is known
}

// String names the setting and the problem, below it what to do.
func (p Problem) String() string {
	text := p.Message
	if p.Explanation != nil {
		text = p.Explanation.String()
	}
	if p.Setting == "" {
		return text
	}
	return p.Setting + ": " + text
}

// String lists changes and problems, a line each, and says so when there are none.
func (p Plan) String() string {
	var lines []string
	switch {
	case !p.Exists:
		lines = append(lines, fmt.Sprintf("connector %s is new", p.Name))
	case len(p.Changes) == 0:
		lines = append(lines, fmt.Sprintf("connector %s is as wanted", p.Name))
	default:
		lines = append(lines, fmt.Sprintf("connector %s changes", p.Name))
	}
	for _, c := range p.Changes {
		lines = append(lines, c.String())
	}
	for _, problem := range p.Problems {
		lines = append(lines, "! "+strings.ReplaceAll(problem.String(), "\n", "\n  "))
	}
	return strings.Join(lines, "\n")
}

// Plan compares a configuration made by Config.Connector with the one that runs, and lets Kafka Connect validate it: the workers load the plugin,
// check each setting and connect to PostgreSQL. It changes nothing.
func (c *Client) Plan(ctx context.Context, want map[string]string) (Plan, error) {
	name := want["name"]
	have, err := c.config(ctx, name)
	plan := Plan{Name: name, Exists: err == nil, Changes: changes(have, want)}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Plan{}, fmt.Errorf("plan connector %s: %w", name, err)
	}
	if plan.Problems, err = c.problems(ctx, want); err != nil {
		return Plan{}, fmt.Errorf("plan connector %s: %w", name, err)
	}
	return plan, nil
}

func changes(have, want map[string]string) []Change {
	var list []Change
	all := maps.Clone(want)
	maps.Copy(all, have)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		before, had := have[key]
		after, wanted := want[key]
		if had && wanted && before == after {
			continue
		}
		change := Change{Setting: key}
		if had {
			text := mask(key, before)
			change.Have = &text
		}
		if wanted {
			text := mask(key, after)
			change.Want = &text
		}
		list = append(list, change)
	}
	return list
}

// problems lets Kafka Connect validate. An unknown plugin and secrets that cannot be read are no answers of the validation but errors of
// the request: those that the table of causes knows are problems as well.
func (c *Client) problems(ctx context.Context, want map[string]string) ([]Problem, error) {
	var answer struct {
		Configs []struct {
			Value struct {
				Name   string   `json:"name"`
				Errors []string `json:"errors"`
			} `json:"value"`
		} `json:"configs"`
	}
	path := "/connector-plugins/" + url.PathEscape(want["connector.class"]) + "/config/validate"
	err := c.call(ctx, http.MethodPut, path, want, &answer)
	var refused *ResponseError
	if errors.As(err, &refused) {
		if p := newProblem("", refused.Message, want); p.Explanation != nil {
			return []Problem{p}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	var problems []Problem
	for _, field := range answer.Configs {
		for _, message := range field.Value.Errors {
			problems = append(problems, newProblem(field.Value.Name, message, want))
		}
	}
	return problems, nil
}

func newProblem(setting, message string, config map[string]string) Problem {
	p := Problem{Setting: setting, Message: redact(message, config)}
	if e := Explain(message, config); e.Cause != CauseUnknown {
		p.Explanation = &e
	}
	return p
}
