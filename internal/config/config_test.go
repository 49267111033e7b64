package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/walpost/walpost/internal/config"
)

// flags parses args as a command would that registers the named options.
func flags(t *testing.T, args []string, names ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.Flags(fs, names...)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, src config.Sources) config.Config {
	t.Helper()
	cfg, err := config.Load(src)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return cfg
}

func TestEachLayerIsStrongerThanTheOneBefore(t *testing.T) {
	t.Parallel()
	file := write(t, "walpost.yaml", "slot: from_file\nevery: 90s\nconcurrency: 4\ntopics: [a, b]\nops-public: true\n")
	environ := []string{"WALPOST_CONFIG=" + file, "WALPOST_SLOT=from_env", "WALPOST_GROUP=from_env", "HOME=/home/ada"}

	cfg := load(t, config.Sources{Environ: environ, Flags: flags(t, []string{"--group=from_flag"}, "group", "slot", "table")})
	type view struct {
		Slot, Group, Table string
		Every              time.Duration
		Concurrency        int
		Topics             []string
		OpsPublic          bool
		DataDir            string
	}
	got := view{cfg.Slot, cfg.Group, cfg.Table, cfg.Every, cfg.Concurrency, cfg.Topics, cfg.OpsPublic, cfg.DataDir}
	want := view{"from_env", "from_flag", "outbox_events", 90 * time.Second, 4, []string{"a", "b"}, true, "/home/ada/.local/share/walpost/dev"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
	for key, want := range map[string]string{
		"group": "flag --group", "slot": "env WALPOST_SLOT", "every": "file " + file, "table": "default", "config": "env WALPOST_CONFIG",
	} {
		if got := cfg.Origin(key); got != want {
			t.Errorf("Origin(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestTheFileOfAFlagIsReadInsteadOfTheEnvironments(t *testing.T) {
	t.Parallel()
	byEnv, byFlag := write(t, "a.yaml", "slot: by_env"), write(t, "b.yaml", "slot: by_flag")
	cfg := load(t, config.Sources{Environ: []string{"WALPOST_CONFIG=" + byEnv}, Flags: flags(t, []string{"--config", byFlag}, "config")})
	if cfg.Slot != "by_flag" {
		t.Errorf("Slot = %q, want by_flag", cfg.Slot)
	}
}

func TestACommandMayHaveADefaultOfItsOwn(t *testing.T) {
	t.Parallel()
	fs := flags(t, nil, "ops-addr=127.0.0.1:9466")
	cfg := load(t, config.Sources{Flags: fs})
	if cfg.OpsAddr != "127.0.0.1:9466" || cfg.Origin("ops-addr") != config.OriginDefault {
		t.Errorf("OpsAddr = %q from %q, want 127.0.0.1:9466 from default", cfg.OpsAddr, cfg.Origin("ops-addr"))
	}
	cfg = load(t, config.Sources{Flags: fs, Environ: []string{"WALPOST_OPS_ADDR=127.0.0.1:1"}})
	if cfg.OpsAddr != "127.0.0.1:1" {
		t.Errorf("OpsAddr = %q, want the environment's", cfg.OpsAddr)
	}
}

func TestTheEnvironmentKnowsTheNamesOfOthers(t *testing.T) {
	t.Parallel()
	secret := write(t, "url", "postgres://a:b@127.0.0.1/c\n")
	for name, tc := range map[string]struct {
		environ []string
		key     string
		want    string
		origin  string
	}{
		"DATABASE_URL is heard":              {[]string{"DATABASE_URL=postgres://127.0.0.1/x"}, "database-url", "postgres://127.0.0.1/x", "env DATABASE_URL"},
		"our own name wins over the alias":   {[]string{"DATABASE_URL=postgres://127.0.0.1/x", "WALPOST_DATABASE_URL=postgres://127.0.0.1/y"}, "database-url", "postgres://127.0.0.1/y", "env WALPOST_DATABASE_URL"},
		"KAFKA_BROKERS is a list":            {[]string{"KAFKA_BROKERS=a:1, b:2"}, "kafka-brokers", "a:1,b:2", "env KAFKA_BROKERS"},
		"PORT is a port alone":               {[]string{"PORT=8080"}, "addr", ":8080", "env PORT"},
		"a secret may come from a file":      {[]string{"WALPOST_DATABASE_URL_FILE=" + secret}, "database-url", "postgres://a:xxxxx@127.0.0.1/c", "env WALPOST_DATABASE_URL_FILE"},
		"so may an alias":                    {[]string{"DATABASE_URL_FILE=" + secret}, "database-url", "postgres://a:xxxxx@127.0.0.1/c", "env DATABASE_URL_FILE"},
		"another secret is masked whole":     {[]string{"WALPOST_SMTP_PASSWORD=a=b://c", "WALPOST_SMTP_USERNAME=ada"}, "smtp-password", "xxxxx", "env WALPOST_SMTP_PASSWORD"},
		"an empty variable counts as unset":  {[]string{"WALPOST_SLOT="}, "slot", "walpost", "default"},
		"Kubernetes' variables do no harm":   {[]string{"WALPOST_PORT=tcp://10.0.0.1:80", "WALPOST_PORT_5001_TCP_ADDR=10.0.0.1", "WALPOST_RELAY_SERVICE_HOST=10.0.0.1"}, "slot", "walpost", "default"},
		"variables of the tests do no harm":  {[]string{"WALPOST_TEST_FETCH=1"}, "slot", "walpost", "default"},
		"variables of others are left alone": {[]string{"WALPOSTER=1", "PATH=/bin"}, "slot", "walpost", "default"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := load(t, config.Sources{Environ: tc.environ})
			want := []config.Value{{Key: tc.key, Value: tc.want, Origin: tc.origin}}
			if diff := cmp.Diff(want, cfg.Values(tc.key)); diff != "" {
				t.Errorf("Values(%q) (-want +got):\n%s", tc.key, diff)
			}
		})
	}
}

func TestConventionsOfOtherPrograms(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		environ        []string
		noColor, trace bool
	}{
		"nothing set":                      {nil, false, false},
		"NO_COLOR":                         {[]string{"NO_COLOR=1"}, true, false},
		"empty NO_COLOR counts as not set": {[]string{"NO_COLOR="}, false, false},
		"an OTLP endpoint":                 {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"}, false, true},
		"an OTLP endpoint for traces":      {[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:4318"}, false, true},
		"the SDK disabled":                 {[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318", "OTEL_SDK_DISABLED=true"}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := load(t, config.Sources{Environ: tc.environ})
			if cfg.NoColor != tc.noColor || cfg.Tracing != tc.trace {
				t.Errorf("Load(%v): NoColor, Tracing = %v, %v, want %v, %v", tc.environ, cfg.NoColor, cfg.Tracing, tc.noColor, tc.trace)
			}
		})
	}
}

func TestSettingsThatCannotBeUsedAreNamed(t *testing.T) {
	t.Parallel()
	secret := write(t, "url", "postgres://127.0.0.1/c")
	for name, tc := range map[string]struct {
		file    string
		environ []string
		want    string // FILE stands for the file's path
	}{
		"unknown key":                {"slto: x", nil, `file FILE: unknown key "slto": did you mean "slot"?`},
		"unknown key, nothing near":  {"quux: x", nil, "file FILE: unknown key \"quux\": `walpost config print` lists the known ones"},
		"nested key":                 {"database:\n  url: x", nil, "file FILE: unknown key \"database\": `walpost config print` lists the known ones"},
		"key twice":                  {"slot: a\nslot: b", nil, "file FILE: yaml: unmarshal errors:\n  line 2: mapping key \"slot\" already defined at line 1"},
		"unknown variable":           {"", []string{"WALPOST_DATABSE_URL=x"}, `env WALPOST_DATABSE_URL: unknown variable "WALPOST_DATABSE_URL": did you mean "WALPOST_DATABASE_URL"?`},
		"a _FILE that is no secret":  {"", []string{"WALPOST_SLOT_FILE=x"}, "env WALPOST_SLOT_FILE: unknown variable \"WALPOST_SLOT_FILE\": did you mean \"WALPOST_SLOT\"?"},
		"secret given twice":         {"", []string{"WALPOST_DATABASE_URL=x", "WALPOST_DATABASE_URL_FILE=" + secret}, "env WALPOST_DATABASE_URL_FILE: WALPOST_DATABASE_URL is set as well: unset one of them"},
		"secret's file missing":      {"", []string{"WALPOST_DATABASE_URL_FILE=/no/such"}, "env WALPOST_DATABASE_URL_FILE: open /no/such: no such file or directory"},
		"list where a word belongs":  {"slot: [a]", nil, "file FILE: slot: want text, not a list"},
		"map where a word belongs":   {"slot: {a: b}", nil, "file FILE: slot: want text"},
		"numbers in a list of words": {"topics: [1]", nil, "file FILE: topics: want a list of words"},
		"not a number":               {"concurrency: many", nil, `file FILE: concurrency: "many" is not a whole number`},
		"duration without unit":      {"every: 30", nil, `file FILE: every: "30" is not a duration like 30s or 1h`},
		"negative duration":          {"every: -1s", nil, "file FILE: every: -1s is less than 0s"},
		"number too small":           {"", []string{"WALPOST_CONCURRENCY=0"}, "env WALPOST_CONCURRENCY: 0 is less than 1"},
		"not a bool":                 {"", []string{"WALPOST_OPS_PUBLIC=perhaps"}, `env WALPOST_OPS_PUBLIC: "perhaps" is not true or false`},
		"slot in capitals":           {"", []string{"WALPOST_SLOT=Walpost"}, `env WALPOST_SLOT: "Walpost" is not a slot name: 1 to 63 of a-z, 0-9 and _`},
		"slot too long":              {"", []string{"WALPOST_SLOT=" + strings.Repeat("a", 64)}, `env WALPOST_SLOT: "` + strings.Repeat("a", 64) + `" is not a slot name: 1 to 63 of a-z, 0-9 and _`},
		"publication too long":       {"", []string{"WALPOST_PUBLICATION=" + strings.Repeat("ü", 32)}, `env WALPOST_PUBLICATION: "` + strings.Repeat("ü", 32) + `" is not a name of 1 to 63 bytes`},
		"table of three parts":       {"", []string{"WALPOST_TABLE=a.b.c"}, `env WALPOST_TABLE: "a.b.c" is neither table nor schema.table`},
		"table without a name":       {"", []string{"WALPOST_TABLE=a."}, `env WALPOST_TABLE: "" is not a name of 1 to 63 bytes`},
		"topic with a space":         {"topics: ['a b']", nil, `file FILE: topics: topic name "a b" has a character other than a-z A-Z 0-9 . _ -`},
		"topic of two dots":          {"dead-letter-topic: '..'", nil, `file FILE: dead-letter-topic: topic name ".." is reserved`},
		"open topic expression":      {"", []string{"WALPOST_TOPIC=${event_type"}, `env WALPOST_TOPIC: topic "${event_type": want ${column} for a column`},
		"session that is too short":  {"", []string{"WALPOST_SESSION_TIMEOUT=1s"}, "env WALPOST_SESSION_TIMEOUT: 1s is less than 6s"},
		"address without a port":     {"", []string{"WALPOST_ADDR=localhost"}, `env WALPOST_ADDR: "localhost" is not host:port`},
		"port too large":             {"", []string{"PORT=70000"}, `env PORT: ":70000" has no port from 0 to 65535`},
		"broker without a host":      {"", []string{"KAFKA_BROKERS=:9092"}, `env KAFKA_BROKERS: ":9092" lacks a host or a port to connect to`},
		"no broker":                  {"kafka-brokers: []", nil, "file FILE: kafka-brokers: name at least one broker, host:port"},
		"sender that is no address":  {"", []string{"WALPOST_SMTP_FROM=nobody"}, `env WALPOST_SMTP_FROM: "nobody" is not a mail address`},
		"proxy that is no network":   {"trusted-proxies: [here]", nil, `file FILE: trusted-proxies: "here" is neither an address nor a network like 10.0.0.0/8`},
		"unknown delivery":           {"", []string{"WALPOST_DELIVERY=twice"}, `env WALPOST_DELIVERY: "twice" is not one of exactly-once, at-least-once`},
		"unknown log level":          {"", []string{"WALPOST_LOG_LEVEL=loud"}, `env WALPOST_LOG_LEVEL: "loud" is not one of debug, info, warn, error`},
		"no copies":                  {"replication-factor: 0", nil, "file FILE: replication-factor: 0 is neither -1 nor at least 1"},
		"events among dead letters": {
			"topic: graves\non-unpublishable: dead-letter\ndead-letter-topic: graves", nil,
			`file FILE: "graves" is the dead-letter topic as well: no event could be told from a dead letter`,
		},
		"dead letters of themselves": {"topics: [a, b]\ndead-letter-topic: b", nil, `file FILE: "b" is one of the topics as well: a dead letter would be handled, and die, for ever`},
		"password of nobody":         {"", []string{"WALPOST_SMTP_PASSWORD=x"}, "env WALPOST_SMTP_PASSWORD: there is a password but no smtp-username"},
		"two at once":                {"slot: A\ngroup: ''", nil, "file FILE: slot: \"A\" is not a slot name: 1 to 63 of a-z, 0-9 and _\nfile FILE: group: it is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := write(t, "walpost.yaml", tc.file)
			_, err := config.Load(config.Sources{Environ: append(tc.environ, "WALPOST_CONFIG="+path)})
			if err == nil {
				t.Fatal("Load = nil, want an error")
			}
			if diff := cmp.Diff(tc.want, strings.ReplaceAll(err.Error(), path, "FILE")); diff != "" {
				t.Errorf("Load (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFileThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Sources{Environ: []string{"WALPOST_CONFIG=/no/such.yaml"}})
	if want := "file /no/such.yaml: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("Load = %v, want %s", err, want)
	}
}

func TestEveryOptionHasUsageAndAValidDefault(t *testing.T) {
	t.Parallel()
	cfg := load(t, config.Sources{})
	values := cfg.Values()
	if len(values) != len(config.Options()) {
		t.Fatalf("Values() has %d entries, want one for each of %d options", len(values), len(config.Options()))
	}
	seen := make(map[string]bool)
	for i, o := range config.Options() {
		if seen[o.Name] || o.Usage == "" || values[i].Key != o.Name || values[i].Origin != config.OriginDefault {
			t.Errorf("option %q: twice in the table, without usage, or printed wrongly: %+v", o.Name, values[i])
		}
		seen[o.Name] = true
		if _, err := config.Load(config.Sources{Environ: []string{o.Variable() + "=" + values[i].Value}}); err != nil {
			t.Errorf("default of %s does not load: %v", o.Name, err)
		}
	}
}
