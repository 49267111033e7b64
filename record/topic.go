package record

import (
	"fmt"
	"strings"
)

// maxTopicLength is Kafka's: a topic is a folder name with a partition number behind it.
const maxTopicLength = 249

// CheckTopic reports why name cannot be the name of a Kafka topic, or nil.
func CheckTopic(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("topic name is empty")
	case name == "." || name == "..":
		return fmt.Errorf("topic name %q is reserved", name)
	case len(name) > maxTopicLength:
		return fmt.Errorf("topic name of %d bytes is longer than %d", len(name), maxTopicLength)
	}
	for i := range len(name) {
		if !topicByte(name[i]) {
			return fmt.Errorf("topic name %q has a character other than a-z A-Z 0-9 . _ -", name)
		}
	}
	return nil
}

func topicByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// topicPart is literal text, or a column when column is not empty.
type topicPart struct{ text, column string }

// parseTopic splits a topic expression into its parts.
func parseTopic(expression string) ([]topicPart, error) {
	var parts []topicPart
	for rest := expression; rest != ""; {
		text, after, found := strings.Cut(rest, "${")
		if text != "" {
			parts = append(parts, topicPart{text: text})
		}
		if !found {
			break
		}
		column, behind, closed := strings.Cut(after, "}")
		if !closed || column == "" {
			return nil, fmt.Errorf("topic %q: want ${column} for a column", expression)
		}
		parts = append(parts, topicPart{column: column})
		rest = behind
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("topic name is empty")
	}
	return parts, nil
}
