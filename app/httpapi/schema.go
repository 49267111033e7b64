package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/walpost/walpost/internal/generated/api_models"
)

// maxFaults bounds the answer to a body that is all faults.
const maxFaults = 8

// schema is what the members of a JSON object may be. All of them are strings so far.
type schema []member

type member struct {
	name     string
	required bool
}

// schemaOf reads the schema off a generated struct, so that it cannot drift from the description. It panics on a field that
// is not a string: a member of another kind needs a check of its own here first.
func schemaOf(t reflect.Type) schema {
	s := make(schema, 0, t.NumField())
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() != reflect.String {
			panic(fmt.Sprintf("httpapi: the member %s of %s is not a string", name, t))
		}
		s = append(s, member{name: name, required: !strings.Contains(options, "omitempty")})
	}
	return s
}

// fault is one thing wrong with a body, and where.
type fault struct {
	pointer string // JSON pointer to the member as a URI fragment; "": not about one member
	offset  int    // bytes before it; below 0: nowhere, something is missing
	detail  string
}

// pointerTo writes the pointer to a member of the object: RFC 6901, sections 3 and 6.
func pointerTo(name string) string {
	return "#/" + url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
}

func (f fault) sentence() string {
	switch {
	case f.pointer == "":
		return "at byte " + strconv.Itoa(f.offset) + ": " + f.detail
	case f.offset < 0:
		return "at " + f.pointer + ": " + f.detail
	default:
		return "at " + f.pointer + ", byte " + strconv.Itoa(f.offset) + ": " + f.detail
	}
}

func toModels(faults []fault) []api_models.Fault {
	models := make([]api_models.Fault, len(faults))
	for i, f := range faults {
		models[i].Detail = f.detail
		if f.pointer != "" {
			models[i].Pointer = &faults[i].pointer
		}
		if f.offset >= 0 {
			models[i].Offset = &faults[i].offset
		}
	}
	return models
}

// check returns what is wrong with a body: nothing, the fault that makes it unreadable, or the first of its members' faults.
func (s schema) check(body []byte) []fault {
	if f := textFault(body); f != nil {
		return []fault{*f}
	}
	faults := s.memberFaults(body)
	return faults[:min(len(faults), maxFaults)]
}

// textFault finds what keeps a body from being one JSON object in Unicode.
func textFault(body []byte) *fault {
	if offset := invalidUTF8(body); offset >= 0 {
		return &fault{offset: offset, detail: "not UTF-8"}
	}
	start := len(body) - len(trimSpace(body))
	if start == len(body) {
		return &fault{offset: 0, detail: "the body is empty"}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return syntaxFault(err, len(body))
	}
	if rest := trimSpace(body[dec.InputOffset():]); len(rest) > 0 {
		return &fault{offset: len(body) - len(rest), detail: "something follows the value"}
	}
	if offset := loneSurrogate(body); offset >= 0 {
		return &fault{offset: offset, detail: "half of a surrogate pair"}
	}
	if kind := kindOf(value); kind != "an object" {
		return &fault{offset: start, detail: "expected an object, got " + kind}
	}
	return nil
}

func syntaxFault(err error, size int) *fault {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return &fault{offset: max(int(syntax.Offset)-1, 0), detail: syntax.Error()} // Offset counts the byte at fault too
	}
	return &fault{offset: size, detail: "the body ends within a value"}
}

// memberFaults walks the members of an object that is known to be well-formed.
func (s schema) memberFaults(body []byte) []fault {
	var faults []fault
	seen := make(map[string]bool, len(s))
	dec := json.NewDecoder(bytes.NewReader(body))
	_, _ = dec.Token() // the opening brace; textFault has read the whole object
	for dec.More() {
		offset := int(dec.InputOffset())
		offset += bytes.IndexByte(body[offset:], '"') // skips the comma and space before the name
		token, _ := dec.Token()
		name, _ := token.(string)
		var value json.RawMessage
		_ = dec.Decode(&value)
		if detail := s.memberFault(name, seen[name], value); detail != "" {
			faults = append(faults, fault{pointer: pointerTo(name), offset: offset, detail: detail})
		}
		seen[name] = true
	}
	for _, m := range s {
		if m.required && !seen[m.name] {
			faults = append(faults, fault{pointer: pointerTo(m.name), offset: -1, detail: "is missing"})
		}
	}
	return faults
}

func (s schema) memberFault(name string, repeated bool, value json.RawMessage) string {
	for _, m := range s {
		switch {
		case m.name == name && repeated:
			return "repeated member"
		case m.name == name && kindOf(value) != "a string":
			return "expected a string, got " + kindOf(value)
		case m.name == name:
			return ""
		case strings.EqualFold(m.name, name):
			return "unknown member; the name is written " + m.name
		}
	}
	return "unknown member"
}

// kindOf names the kind of a well-formed value by its first byte.
func kindOf(value json.RawMessage) string {
	switch trimSpace(value)[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	default:
		return "a number"
	}
}

// loneSurrogate returns where a well-formed body escapes half of a surrogate pair, -1 when nowhere. encoding/json would
// replace it without a word, and two different passwords would become the same.
func loneSurrogate(body []byte) int {
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		i++
		if body[i] != 'u' {
			continue
		}
		switch r := unit(body[i+1:]); {
		case !utf16.IsSurrogate(r):
			i += 4
		case bytes.HasPrefix(body[i+5:], []byte(`\u`)) && utf16.DecodeRune(r, unit(body[i+7:])) != utf8.RuneError:
			i += 10
		default:
			return i - 1
		}
	}
	return -1
}

// unit reads the four hexadecimal digits of an escape.
func unit(digits []byte) rune {
	n, _ := strconv.ParseUint(string(digits[:4]), 16, 16) // the decoder has checked them
	return rune(n)
}

// invalidUTF8 returns where a body is not UTF-8, -1 when nowhere.
func invalidUTF8(body []byte) int {
	for i := 0; i < len(body); {
		r, size := utf8.DecodeRune(body[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// trimSpace cuts the white space that JSON allows, and no other, off the front.
func trimSpace(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }
