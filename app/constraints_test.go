package app_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// The generated server checks none of what the description demands of a body. This walks the description, so that a new
// demand that nobody checks is found.
func TestEveryConstraintOfARequestIsEnforced(t *testing.T) {
	t.Parallel()
	doc := description(t)
	s := serve(t, setting{})
	checked := 0
	for _, op := range operations(doc) {
		schema := op.node.at(doc, "requestBody", "content", "application/json", "schema")
		if len(schema) == 0 {
			continue
		}
		for name, mutate := range violations(t, doc, schema) {
			body := make(map[string]any)
			for _, value := range values(doc, op.node.at(doc, "requestBody")) {
				for key, v := range value.(map[string]any) {
					body[key] = v
				}
			}
			member := mutate(body)
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			got := s.do(op.method, op.path, "application/json", string(text))
			if got.status != 400 || !strings.Contains(got.body, `"pointer":"#/`+member+`"`) {
				t.Errorf("%s %s with %s = %d %s, want 400 with a pointer to %s", op.method, op.path, name, got.status, got.body, member)
			}
			checked++
		}
	}
	// two members: each required, of its type and two lengths; and no other member
	if checked != 9 {
		t.Errorf("%d constraints checked, want 9: has the description another?", checked)
	}
}

// violations has, for each constraint of a schema, a change of a good body that breaks it and returns the member at fault. A
// keyword that it does not know fails the test.
func violations(t *testing.T, doc, schema object) map[string]func(map[string]any) string {
	t.Helper()
	all := make(map[string]func(map[string]any) string)
	set := func(what, member string, value any) {
		all[what] = func(body map[string]any) string { body[member] = value; return member }
	}
	for keyword := range schema {
		switch keyword {
		case "type", "properties", "description":
		case "additionalProperties":
			set("a member that is not described", "other", "x")
		case "required":
			for _, name := range schema["required"].([]any) {
				all[fmt.Sprintf("no %s", name)] = func(body map[string]any) string { delete(body, name.(string)); return name.(string) }
			}
		default:
			t.Errorf("the keyword %s of a schema is not tested", keyword)
		}
	}
	for name := range schema.at(doc, "properties") {
		property := schema.at(doc, "properties", name)
		for keyword, value := range property {
			switch keyword {
			case "description", "example", "format", "x-go-type": // the formats are rules of package app, tested there
			case "type":
				set("a number as "+name, name, 5)
			case "minLength":
				set("a short "+name, name, strings.Repeat("x", int(value.(float64))-1))
			case "maxLength":
				set("a long "+name, name, strings.Repeat("x", int(value.(float64))+1))
			default:
				t.Errorf("the keyword %s of the member %s is not tested", keyword, name)
			}
		}
	}
	return all
}
