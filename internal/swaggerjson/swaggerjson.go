// Package swaggerjson turns an OpenAPI document written in YAML into the same document in JSON.
//
// It is not a general YAML converter: what reads differently in YAML and in JSON is refused with its line instead of being
// guessed, so that the two files always say the same. The output is a function of the input alone: members keep their order.
package swaggerjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Convert returns the JSON form of one YAML document, indented by two spaces and ended by a newline. It refuses, naming the
// line: keys that are not strings (write "200", not 200), repeated keys, timestamps, versions that are numbers (1.10 would
// become 1.1), anchors and aliases, and anything that is not a single document.
func Convert(src []byte) ([]byte, error) {
	dec := yaml.NewDecoder(bytes.NewReader(src))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		return nil, fmt.Errorf("read yaml: %w", err)
	}
	if dec.Decode(new(yaml.Node)) == nil {
		return nil, errors.New("read yaml: a second document follows the first")
	}
	var compact, out bytes.Buffer
	if err := write(&compact, doc.Content[0]); err != nil {
		return nil, err
	}
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		return nil, fmt.Errorf("indent json: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func write(dst *bytes.Buffer, n *yaml.Node) error {
	if n.Anchor != "" {
		return refuse(n, "anchors are not supported, use $ref")
	}
	switch n.Kind {
	case yaml.MappingNode:
		return writeMapping(dst, n)
	case yaml.SequenceNode:
		return writeSequence(dst, n)
	case yaml.ScalarNode:
		return writeScalar(dst, n)
	default:
		return refuse(n, "aliases are not supported, use $ref")
	}
}

func writeMapping(dst *bytes.Buffer, n *yaml.Node) error {
	seen := make(map[string]bool, len(n.Content)/2)
	dst.WriteByte('{')
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str":
			return refuse(key, fmt.Sprintf("the key %s is not a string: quote it", key.Value))
		case seen[key.Value]:
			return refuse(key, fmt.Sprintf("the key %s is repeated", key.Value))
		case (key.Value == "version" || key.Value == "openapi") && value.Kind == yaml.ScalarNode && value.ShortTag() != "!!str":
			return refuse(value, fmt.Sprintf("the version %s is not a string: quote it", value.Value))
		}
		seen[key.Value] = true
		if i > 0 {
			dst.WriteByte(',')
		}
		if err := writeString(dst, key.Value); err != nil {
			return err
		}
		dst.WriteByte(':')
		if err := write(dst, value); err != nil {
			return err
		}
	}
	dst.WriteByte('}')
	return nil
}

func writeSequence(dst *bytes.Buffer, n *yaml.Node) error {
	dst.WriteByte('[')
	for i, item := range n.Content {
		if i > 0 {
			dst.WriteByte(',')
		}
		if err := write(dst, item); err != nil {
			return err
		}
	}
	dst.WriteByte(']')
	return nil
}

func writeScalar(dst *bytes.Buffer, n *yaml.Node) error {
	switch n.ShortTag() {
	case "!!str":
		return writeString(dst, n.Value)
	case "!!null":
		dst.WriteString("null")
		return nil
	case "!!bool":
		dst.WriteString(strings.ToLower(n.Value))
		return nil
	case "!!int", "!!float":
		// YAML knows numbers that JSON does not, such as 0x10, 1_000 and .inf.
		if !json.Valid([]byte(n.Value)) {
			return refuse(n, fmt.Sprintf("%s is not a number in json", n.Value))
		}
		dst.WriteString(n.Value)
		return nil
	default:
		return refuse(n, fmt.Sprintf("%s reads as %s: quote it", n.Value, n.ShortTag()))
	}
}

// writeString leaves <, > and & as they are: the document is served as JSON, never inside a page.
func writeString(dst *bytes.Buffer, s string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return fmt.Errorf("encode string: %w", err)
	}
	dst.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
	return nil
}

func refuse(n *yaml.Node, why string) error {
	return fmt.Errorf("yaml line %d: %s", n.Line, why)
}
