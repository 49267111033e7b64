package debezium

import (
	"regexp"
	"slices"
	"strings"
)

// Cause names what stopped a connector, for machines.
type Cause string

// CauseUnknown is the cause of a failure that the table of causes does not know.
const CauseUnknown Cause = "unknown"

// Explanation is a failure in plain words.
type Explanation struct {
	Cause   Cause  `json:"cause"`
	Root    string `json:"root"`    // the innermost message of the trace
	Meaning string `json:"meaning"` // what is wrong
	Next    string `json:"next"`    // what to do, where possible the command to run
}

// String is meaning, advice and the message they were drawn from, a line each.
func (e Explanation) String() string { return e.Meaning + "\n" + e.Next + "\n(" + e.Root + ")" }

// Explain finds the cause in a Java stack trace or in an error message of Kafka Connect. The connector's configuration, which may be nil, lends
// the names that the trace leaves out.
func Explain(trace string, config map[string]string) Explanation {
	chain := messages(trace)
	e := Explanation{Cause: CauseUnknown, Root: redact(root(chain), config)}
	for i := len(chain) - 1; i >= 0; i-- { // the innermost knows best
		for _, known := range causes {
			match := known.pattern.FindStringSubmatchIndex(chain[i])
			if match == nil {
				continue
			}
			fill := func(template string) string {
				return strings.TrimSpace(fillIn(string(known.pattern.ExpandString(nil, template, chain[i], match)), config))
			}
			e.Cause, e.Meaning, e.Next = known.cause, fill(known.meaning), fill(known.next)
			return e
		}
	}
	e.Meaning = "It stopped for a reason that is not among the known ones."
	e.Next = "Look at the worker's log around the failure; after mending it run `walpost connector restart`."
	return e
}

var (
	causedBy  = regexp.MustCompile(`(?m)^Caused by: `)                       // begins an inner exception
	frame     = regexp.MustCompile(`(?m)^\s+(at |\.\.\. \d+ |Suppressed: )`) // begins what is no message
	exception = regexp.MustCompile(`^(?:[\w$]+\.)+[\w$]+(?::\s*|$)`)
)

// messages are those of the exceptions in a trace, outermost first, each with the exception's name and without its frames; at least one.
func messages(trace string) []string {
	var chain []string
	for _, part := range causedBy.Split(trace, -1) {
		if at := frame.FindStringIndex(part); at != nil {
			part = part[:at[0]]
		}
		chain = append(chain, strings.Join(strings.Fields(part), " "))
	}
	return chain
}

// root is the innermost message that says anything, without the exception's name.
func root(chain []string) string {
	for _, message := range slices.Backward(chain) {
		if text := exception.ReplaceAllString(message, ""); text != "" {
			return shorten(text)
		}
	}
	return shorten(chain[len(chain)-1])
}

// shorten keeps Debezium's messages, which may hold its whole state, readable.
func shorten(text string) string {
	const limit = 400
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit/2], "") + " … " + strings.ToValidUTF8(text[len(text)-limit/2:], "")
}

// setting is a name in a meaning that stands for a setting of the connector.
var setting = regexp.MustCompile(`\{([a-z.]+)\}`)

func fillIn(text string, config map[string]string) string {
	return setting.ReplaceAllStringFunc(text, func(name string) string {
		name = strings.Trim(name, "{}")
		if value, ok := config[name]; ok && !secret(name) {
			return value
		}
		return "(" + name + ")"
	})
}
