package outbox

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// validate finds the first event that the system could not carry from the row to a consumer. The ids must be set.
func validate(events []Event) error {
	if err := validateSize(events); err != nil {
		return err
	}
	seen := make(map[EventID]int, len(events))
	for i, ev := range events {
		if first, again := seen[ev.ID]; again {
			return &EventError{Index: i, Field: "ID", Reason: fmt.Sprintf("%v is also the id of event %d of the same call", ev.ID, first)}
		}
		seen[ev.ID] = i
		if field, reason := ev.fault(); field != "" {
			return &EventError{Index: i, Field: field, Reason: reason}
		}
	}
	return nil
}

// validateSize looks at the call as a whole, before the events are looked at one by one, which takes long for so many
// bytes.
func validateSize(events []Event) error {
	size := 0
	for i, ev := range events {
		if size += ev.size(); size > MaxAppendBytes {
			return &EventError{Index: i, Field: "Payload", Reason: fmt.Sprintf(
				"makes this call larger than %d bytes: append the events in several calls", MaxAppendBytes)}
		}
	}
	return nil
}

// size is about what the event adds to the statement before quoting. A payload beyond its own limit counts as one at
// the limit: what is wrong then is the event and not the call.
func (ev Event) size() int {
	const idAndSeparators = 64
	size := idAndSeparators + len(ev.AggregateType) + len(ev.AggregateID) + len(ev.Type) + min(len(ev.Payload), MaxPayloadBytes) + len(ev.TraceParent)
	if ev.Headers != nil {
		size += len(headersText(ev.Headers))
	}
	return size
}

// fault names the first field that breaks a rule, and the rule.
func (ev Event) fault() (field, reason string) {
	for _, check := range []struct{ field, reason string }{
		{"AggregateType", textFault(ev.AggregateType, 1, MaxAggregateTypeBytes)},
		{"AggregateID", textFault(ev.AggregateID, 1, MaxAggregateIDBytes)},
		{"Type", topicFault(ev.Type)},
		{"Payload", payloadFault(ev.Payload)},
		{"Headers", headersFault(ev.Headers)},
		{"TraceParent", textFault(ev.TraceParent, 0, MaxTraceParentBytes)},
	} {
		if check.reason != "" {
			return check.field, check.reason
		}
	}
	return "", ""
}

func textFault(s string, low, high int) string {
	switch {
	case len(s) < low:
		return "is empty"
	case len(s) > high:
		return fmt.Sprintf("has %d bytes, more than %d", len(s), high)
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case strings.Contains(s, "\x00"):
		return "holds a NUL byte, which PostgreSQL cannot store"
	}
	return ""
}

// topicFault applies Kafka's rules for the name of a topic.
func topicFault(s string) string {
	if reason := textFault(s, 1, MaxTypeBytes); reason != "" {
		return reason
	}
	if s == "." || s == ".." || strings.ContainsFunc(s, notInTopic) {
		return fmt.Sprintf("%q cannot name a topic: letters, digits, '.', '_' and '-' can", s)
	}
	return ""
}

func notInTopic(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	return !letter && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-'
}

// payloadFault is as strict as PostgreSQL's json input and not stricter: it takes duplicate keys, numbers beyond
// every float, and \u0000.
func payloadFault(p json.RawMessage) string {
	switch {
	case p == nil:
		return ""
	case len(p) == 0:
		return "is empty: nil means no payload, and JSON has no empty text"
	case len(p) > MaxPayloadBytes:
		return fmt.Sprintf("has %d bytes, more than %d", len(p), MaxPayloadBytes)
	case !utf8.Valid(p):
		return "is not valid UTF-8"
	case !json.Valid(p):
		return "is not valid JSON"
	}
	return ""
}

func headersFault(headers map[string]string) string {
	for _, key := range sortedKeys(headers) {
		if reason := textFault(key, 0, MaxHeadersBytes); reason != "" {
			return fmt.Sprintf("key %q %s", key, reason)
		}
		if reason := textFault(headers[key], 0, MaxHeadersBytes); reason != "" {
			return fmt.Sprintf("value of %q %s", key, reason)
		}
	}
	if size := len(headersText(headers)); size > MaxHeadersBytes {
		return fmt.Sprintf("have %d bytes, more than %d", size, MaxHeadersBytes)
	}
	return ""
}
