package swaggerjson_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/swaggerjson"
)

func TestConvert(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ src, want string }{
		"keeps the order of members": {"b: 1\na: [x, \"2026-01-02\"]\n", "{\n  \"b\": 1,\n  \"a\": [\n    \"x\",\n    \"2026-01-02\"\n  ]\n}\n"},
		"keeps numbers as written":   {"n: 1.50\nm: 9007199254740993\n", "{\n  \"n\": 1.50,\n  \"m\": 9007199254740993\n}\n"},
		"keeps markup as written":    {"s: a <b> & c\n", "{\n  \"s\": \"a <b> & c\"\n}\n"},
		"writes booleans and null":   {"t: True\nf: false\nn: ~\n", "{\n  \"t\": true,\n  \"f\": false,\n  \"n\": null\n}\n"},
		"takes a quoted version":     {"version: \"1.10\"\n", "{\n  \"version\": \"1.10\"\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := swaggerjson.Convert([]byte(tc.src))
			if err != nil {
				t.Fatalf("Convert(%q) = %v", tc.src, err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("Convert(%q) (-want +got):\n%s", tc.src, diff)
			}
		})
	}
}

func TestConvertRefusesWhatReadsDifferentlyInJSON(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ src, want string }{
		"a response code without quotes": {"a: x\n200: ok\n", "line 2: the key 200 is not a string"},
		"a repeated key":                 {"a: 1\nb: 2\na: 3\n", "line 3: the key a is repeated"},
		"a version that is a number":     {"info:\n  version: 1.10\n", "line 2: the version 1.10 is not a string"},
		"a date without quotes":          {"d: 2026-01-02\n", "line 1: 2026-01-02 reads as !!timestamp"},
		"a number JSON does not know":    {"n: 0x10\n", "line 1: 0x10 is not a number in json"},
		"an anchor":                      {"a: &x 1\nb: *x\n", "line 1: anchors are not supported"},
		"a second document":              {"a: 1\n---\nb: 2\n", "a second document follows"},
		"nothing":                        {"", "read yaml"},
		"broken yaml":                    {"a: [", "read yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := swaggerjson.Convert([]byte(tc.src))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Convert(%q) = %q, %v, want an error with %q", tc.src, got, err, tc.want)
			}
		})
	}
}
