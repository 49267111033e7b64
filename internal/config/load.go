package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// Error is a setting that cannot be used, and what to do about it. The person who set it can mend it; nothing has been started.
type Error struct {
	Origin string // where it was set: "file walpost.yaml", "env WALPOST_SLOT", "flag --slot"
	Reason string
}

// Error reads "env WALPOST_SLOT: …".
func (e *Error) Error() string { return e.Origin + ": " + e.Reason }

// Sources are the layers above the defaults.
type Sources struct {
	Environ []string       // "KEY=value", as Environ returns it; nil: none
	Flags   *pflag.FlagSet // parsed; flags that are no options are left alone; nil: none
}

// Environ returns the environment of this process.
func Environ() []string { return os.Environ() }

// Load merges the layers and checks every value. Its error joins one *Error for each setting that cannot be used.
func Load(src Sources) (Config, error) {
	flags, err := flagLayer(src.Flags)
	if err != nil {
		return Config{}, err
	}
	environ, err := envLayer(src.Environ)
	if err != nil {
		return Config{}, err
	}
	path := flags.text("config")
	if path == "" {
		path = environ.text("config")
	}
	fromFile, err := fileLayer(path)
	if err != nil {
		return Config{}, err
	}
	c, err := decode(merge(defaultLayer(src.Flags), fromFile, environ, flags))
	if err != nil {
		return Config{}, err
	}
	return c.withConventions(src.Environ), nil
}

// layer is one source: its values, in a koanf of its own so that their origin is not lost in the merge.
type layer struct {
	values *koanf.Koanf
	origin func(key string) string
}

// The keys are flat: a delimiter that no key contains.
func newValues() *koanf.Koanf { return koanf.New("\x00") }

func (l layer) text(key string) string { return l.values.String(key) }

func defaultLayer(flags *pflag.FlagSet) layer {
	values := newValues()
	for _, o := range options() {
		_ = values.Set(o.Name, o.Default) // cannot fail: a flat key and no merge function
		if flags == nil {
			continue
		}
		if f := flags.Lookup(o.Name); f != nil && !f.Changed {
			_ = values.Set(o.Name, posflag.FlagVal(flags, f)) // the command's own default
		}
	}
	return layer{values, func(string) string { return OriginDefault }}
}

func fileLayer(path string) (layer, error) {
	l := layer{newValues(), func(string) string { return "file " + path }}
	if path == "" {
		return l, nil
	}
	if err := l.values.Load(file.Provider(path), yaml.Parser()); err != nil {
		return layer{}, &Error{Origin: "file " + path, Reason: strings.TrimPrefix(err.Error(), "open "+path+": ")}
	}
	var errs []error
	for key := range l.values.Raw() {
		if _, known := find(key); !known {
			errs = append(errs, &Error{Origin: "file " + path, Reason: unknown("key", key, names())})
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return l, errors.Join(errs...)
}

func flagLayer(flags *pflag.FlagSet) (layer, error) {
	l := layer{newValues(), func(key string) string { return "flag --" + key }}
	if flags == nil {
		return l, nil
	}
	provider := posflag.ProviderWithFlag(flags, "\x00", nil, func(f *pflag.Flag) (string, any) {
		if _, known := find(f.Name); !known {
			return "", nil
		}
		return f.Name, posflag.FlagVal(flags, f)
	})
	if err := l.values.Load(provider, nil); err != nil {
		return layer{}, fmt.Errorf("read the flags: %w", err)
	}
	return l, nil
}

func envLayer(environ []string) (layer, error) {
	found, err := readEnviron(environ)
	if err != nil {
		return layer{}, err
	}
	values := newValues()
	provider := env.Provider("\x00", env.Opt{
		EnvironFunc:   func() []string { return found.entries },
		TransformFunc: func(key, value string) (string, any) { return key, value },
	})
	if err := values.Load(provider, nil); err != nil {
		return layer{}, fmt.Errorf("read the environment: %w", err)
	}
	return layer{values, func(key string) string { return found.origins[key] }}, nil
}

// unknown is the reason that names a key nobody knows and the nearest known one.
func unknown(kind, name string, candidates []string) string {
	reason := fmt.Sprintf("unknown %s %q", kind, name)
	if near := Nearest(name, candidates); near != "" {
		return reason + fmt.Sprintf(": did you mean %q?", near)
	}
	return reason + ": `walpost config print` lists the known ones"
}

// merged is the result of the layers: valid values, and where each came from.
type merged struct {
	values  *koanf.Koanf
	origins map[string]string
	errs    []error
}

// merge takes each key from the last layer that has it.
func merge(layers ...layer) merged {
	m := merged{values: newValues(), origins: make(map[string]string)}
	for _, o := range options() {
		for _, l := range slices.Backward(layers) {
			if !l.values.Exists(o.Name) {
				continue
			}
			m.add(o, l)
			break
		}
	}
	return m
}

func (m *merged) add(o Option, l layer) {
	origin := l.origin(o.Name)
	value, err := o.parse(l.values.Get(o.Name))
	if err != nil {
		reason := err.Error()
		if strings.HasPrefix(origin, "file ") {
			reason = o.Name + ": " + reason
		}
		m.errs = append(m.errs, &Error{Origin: origin, Reason: reason})
		return
	}
	_ = m.values.Set(o.Name, value) // cannot fail: a flat key and no merge function
	m.origins[o.Name] = origin
}

func decode(m merged) (Config, error) {
	if len(m.errs) > 0 {
		return Config{}, errors.Join(m.errs...)
	}
	c := Config{origins: m.origins}
	// The values have their types already: a key without a field is a mistake between the table and the struct.
	strict := &mapstructure.DecoderConfig{ErrorUnused: true}
	if err := m.values.UnmarshalWithConf("", &c, koanf.UnmarshalConf{DecoderConfig: strict}); err != nil {
		return Config{}, fmt.Errorf("table of options and Config differ: %w", err)
	}
	c.DatabaseURL = verifyRemote(c.DatabaseURL)
	return c, c.contradiction()
}

// contradiction looks at settings that are valid alone and not together.
func (c Config) contradiction() error {
	if slices.Contains(c.Topics, c.DeadLetterTopic) {
		return &Error{
			Origin: c.Origin("dead-letter-topic"),
			Reason: fmt.Sprintf("%q is one of the topics as well: a dead letter would be handled, and die, for ever", c.DeadLetterTopic),
		}
	}
	if c.OnUnpublishable == "dead-letter" && c.Topic == c.DeadLetterTopic {
		return &Error{Origin: c.Origin("topic"), Reason: fmt.Sprintf("%q is the dead-letter topic as well: no event could be told from a dead letter", c.Topic)}
	}
	if c.SMTPPassword != "" && c.SMTPUsername == "" {
		return &Error{Origin: c.Origin("smtp-password"), Reason: "there is a password but no smtp-username"}
	}
	return nil
}

// fields is the inverse of decode: every option's value by its key.
func (c Config) fields() map[string]any {
	values := make(map[string]any)
	encoder, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{TagName: "koanf", Result: &values})
	if err != nil {
		panic(err) // the configuration above is constant
	}
	if err := encoder.Decode(c); err != nil {
		panic(err) // a Config has no field that could not be read
	}
	return values
}
