package debezium

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/walpost/walpost/record"
)

// router translates the mapping into the settings of the outbox event router.
func (c Config) router() (map[string]string, error) {
	m := c.Mapping
	if err := m.Validate(); err != nil {
		return nil, err
	}
	routeBy, replacement, err := route(m)
	if err != nil {
		return nil, err
	}
	const p = "transforms.outbox."
	out := map[string]string{
		"transforms":                    "outbox",
		p + "type":                      routerTransform,
		p + "table.field.event.id":      m.ID,
		p + "table.field.event.key":     m.Key, // trap: aggregateid by default
		p + "table.field.event.payload": m.Payload,
		p + "route.by.field":            routeBy,
		p + "route.topic.regex":         `(?<routedByValue>.*)`,
		p + "route.topic.replacement":   replacement,
		// Trap: a blank text becomes a tombstone when set. A NULL payload is one without it, by the converter.
		p + "route.tombstone.on.empty.payload": "false",
		// Trap: expansion parses the payload and writes it anew: other numbers, no nulls, no empty arrays.
		p + "table.expand.json.payload":      "false",
		p + "table.field.additional.missing": "error",
		// An update of an outbox row is a mistake. None arrives here, since the publication and skipped.operations leave them out.
		p + "table.op.invalid.behavior": "fatal",
	}
	placed, err := placement(m.Placed)
	if err != nil {
		return nil, err
	}
	if placed != "" {
		out[p+"table.fields.additional.placement"] = placed
	}
	return out, nil
}

// column is a reference of a topic expression.
var column = regexp.MustCompile(`\$\{([^}]+)\}`)

// route translates a topic expression into the column that the router reads and a replacement for that column's text.
func route(m record.Mapping) (by, replacement string, err error) {
	var columns []string
	for _, match := range column.FindAllStringSubmatch(m.Topic, -1) {
		if !slices.Contains(columns, match[1]) {
			columns = append(columns, match[1])
		}
	}
	if len(columns) > 1 {
		return "", "", fmt.Errorf("topic %q: Debezium's router knows one column and this names %s: keep one, "+
			"write the topic's name into a column of its own, or publish with walpost's relay", m.Topic, strings.Join(columns, " and "))
	}
	if len(columns) == 0 {
		// The router insists on a column of text: the id is one, whether uuid or text.
		return m.ID, m.Topic, nil
	}
	return columns[0], column.ReplaceAllString(m.Topic, "$${routedByValue}"), nil
}

// placement lists the columns that become headers, in order.
func placement(placed []string) (string, error) {
	var entries []string
	for _, entry := range placed {
		name, header, aliased := strings.Cut(entry, ":")
		if strings.ContainsAny(name+header, ",:") {
			return "", errors.New("placed column " + entry + ": a name with a comma or a colon cannot be said to Debezium's router")
		}
		text := name + ":header"
		if aliased {
			text += ":" + header
		}
		entries = append(entries, text)
	}
	return strings.Join(entries, ","), nil
}
