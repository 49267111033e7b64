package app_test

import (
	"encoding/json"
	"strings"
	"testing"

	api "github.com/walpost/walpost/docs/api"
)

// object is a node of the description. Its methods return an empty one where there is nothing.
type object map[string]any

func description(t *testing.T) object {
	t.Helper()
	var doc object
	if err := json.Unmarshal([]byte(api.JSON()), &doc); err != nil {
		t.Fatalf("read the description: %v", err)
	}
	return doc
}

// at walks down the path and follows references.
func (o object) at(doc object, path ...string) object {
	for _, step := range path {
		next, _ := o[step].(map[string]any)
		o = next
		if ref, ok := o["$ref"].(string); ok {
			o = doc.at(doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
	}
	return o
}

// operation is one method of one path.
type operation struct {
	method, path string
	node         object
}

func operations(doc object) []operation {
	var all []operation
	for path := range doc.at(doc, "paths") {
		for method := range doc.at(doc, "paths", path) {
			all = append(all, operation{strings.ToUpper(method), path, doc.at(doc, "paths", path, method)})
		}
	}
	return all
}

// values are the example values of a message's one content type, by name.
func values(doc, message object) map[string]any {
	all := make(map[string]any)
	for contentType := range message.at(doc, "content") {
		for name := range message.at(doc, "content", contentType, "examples") {
			all[name] = message.at(doc, "content", contentType, "examples", name)["value"]
		}
	}
	return all
}
