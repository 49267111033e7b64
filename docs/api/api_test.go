package api_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	api "github.com/walpost/walpost/docs/api"
	"github.com/walpost/walpost/internal/swaggerjson"
)

var update = flag.Bool("update", false, "accept the description as the one of its version")

const golden = "testdata/version.golden"

func TestJSONIsGeneratedFromYAML(t *testing.T) {
	t.Parallel()
	want, err := swaggerjson.Convert([]byte(api.YAML()))
	if err != nil {
		t.Fatalf("Convert(swagger.yaml) = %v", err)
	}
	if diff := cmp.Diff(string(want), api.JSON()); diff != "" {
		t.Errorf("swagger.json is not the JSON form of swagger.yaml, run `make swagger` (-want +got):\n%s", diff)
	}
}

// Whoever holds a description of a version may rely on it: another text needs another version.
func TestDescriptionChangesOnlyWithItsVersion(t *testing.T) {
	t.Parallel()
	version, sum := fingerprint(t, api.YAML())
	line := fmt.Sprintf("%s %s\n", version, sum)
	accepted, err := os.ReadFile(golden)
	if err != nil && (!os.IsNotExist(err) || !*update) {
		t.Fatal(err)
	}
	switch oldVersion, _, _ := strings.Cut(string(accepted), " "); {
	case string(accepted) == line:
	case oldVersion == version:
		t.Errorf("swagger.yaml has changed under the version %s: raise info.version, then run `go test ./docs/api -update`", version)
	case !*update:
		t.Errorf("swagger.yaml is of version %s and %s holds %q: run `go test ./docs/api -update` and read the diff", version, golden, accepted)
	default:
		if err := os.WriteFile(golden, []byte(line), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fingerprint returns the version and a hash of everything else.
func fingerprint(t *testing.T, yaml string) (version, sum string) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^  version: "([^"]+)"\n`).FindStringSubmatchIndex(yaml)
	if m == nil {
		t.Fatal("swagger.yaml has no line with info.version in quotes")
	}
	return yaml[m[2]:m[3]], fmt.Sprintf("%x", sha256.Sum256([]byte(yaml[:m[0]]+yaml[m[1]:])))
}

func TestFingerprintIsOfEverythingButTheVersion(t *testing.T) {
	t.Parallel()
	const text = "info:\n  version: \"1.0\"\npaths: {}\n"
	_, sum := fingerprint(t, text)
	if v, same := fingerprint(t, strings.Replace(text, "1.0", "2.0", 1)); v != "2.0" || same != sum {
		t.Errorf("fingerprint of another version = %s %s, want 2.0 %s", v, same, sum)
	}
	if _, other := fingerprint(t, strings.Replace(text, "{}", "{ }", 1)); other == sum {
		t.Error("fingerprint of another text is the same")
	}
}

func TestRapiDocIsWholeAndLicensed(t *testing.T) {
	t.Parallel()
	if script := api.RapiDoc(); !strings.HasPrefix(script, "/*! RapiDoc 9.3.8 |") || len(script) != 863099 {
		t.Errorf("RapiDoc() has %d bytes and begins %.60q, want 863099 bytes of RapiDoc 9.3.8", len(script), script)
	}
	for _, want := range []string{"MIT License", "js-yaml", "Google LLC"} {
		if !strings.Contains(api.RapiDocLicense(), want) {
			t.Errorf("RapiDocLicense() lacks %q", want)
		}
	}
}
