package config

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// environ is what the environment says: "key=value" with the options' keys, and the variable that each came from.
type environ struct {
	entries []string
	origins map[string]string
}

// readEnviron finds the options' variables. A variable that is set but empty counts as not set, as compose files write `${NAME:-}`.
func readEnviron(list []string) (environ, error) {
	vars := variables(list)
	found := environ{origins: make(map[string]string)}
	errs := unknownVariables(vars)
	for _, o := range options() {
		for _, name := range append([]string{o.Variable()}, o.Aliases...) {
			value, origin, err := o.lookup(vars, name)
			if err != nil {
				errs = append(errs, err)
			}
			if value != "" {
				found.entries = append(found.entries, o.Name+"="+value)
				found.origins[o.Name] = origin
				break
			}
		}
	}
	return found, errors.Join(errs...)
}

func variables(list []string) map[string]string {
	vars := make(map[string]string, len(list))
	for _, entry := range list {
		if name, value, ok := strings.Cut(entry, "="); ok && value != "" {
			vars[name] = value
		}
	}
	return vars
}

// lookup reads one variable of the option, for a secret also the file that its _FILE variable names.
func (o Option) lookup(vars map[string]string, name string) (value, origin string, err error) {
	value, origin = vars[name], "env "+name
	if value != "" && name == "PORT" {
		value = ":" + value // a port alone, as platforms hand it to a web server
	}
	path := vars[name+"_FILE"]
	if !o.Secret || path == "" {
		return value, origin, nil
	}
	origin += "_FILE"
	if value != "" {
		return "", "", &Error{Origin: origin, Reason: name + " is set as well: unset one of them"}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", "", &Error{Origin: origin, Reason: err.Error()}
	}
	return strings.TrimRight(string(content), "\r\n"), origin, nil
}

// Kubernetes sets such variables in every pod of a namespace that has a Service named walpost or walpost-…; nobody wrote them.
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
var serviceLink = regexp.MustCompile(`^WALPOST_(.+_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)$`)

// reserved variables steer walpost's own tests.
const reserved = prefix + "TEST_"

func unknownVariables(vars map[string]string) []error {
	known := knownVariables()
	var errs []error
	for name := range vars {
		switch {
		case !strings.HasPrefix(name, prefix), strings.HasPrefix(name, reserved), slices.Contains(known, name), serviceLink.MatchString(name):
		default:
			errs = append(errs, &Error{Origin: "env " + name, Reason: unknown("variable", name, known)})
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errs
}

func knownVariables() []string {
	var known []string
	for _, o := range options() {
		known = append(known, o.Variable())
		if o.Secret {
			known = append(known, o.Variable()+"_FILE")
		}
	}
	return known
}

func (c Config) withConventions(list []string) Config {
	vars := variables(list)
	c.NoColor = vars["NO_COLOR"] != ""
	if c.DataDir == "" {
		c.DataDir = dataDir(vars, "dev")
	}
	if c.StackDir == "" {
		c.StackDir = dataDir(vars, "stack")
	}
	endpoint := cmp.Or(vars["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], vars["OTEL_EXPORTER_OTLP_ENDPOINT"])
	c.Tracing = endpoint != "" && !strings.EqualFold(vars["OTEL_SDK_DISABLED"], "true")
	return c
}

// dataDir is walpost/NAME in the user's data folder (https://specifications.freedesktop.org/basedir-spec/latest/), "" when there is no such folder.
func dataDir(vars map[string]string, name string) string {
	base := vars["XDG_DATA_HOME"]
	if base == "" && vars["HOME"] != "" {
		base = filepath.Join(vars["HOME"], ".local", "share")
	}
	if base == "" {
		return ""
	}
	return filepath.Join(base, "walpost", name)
}
