package deploy_test

import (
	"encoding/base64"
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/devstack/connect"
	"github.com/walpost/walpost/internal/devstack/kafka"
	"github.com/walpost/walpost/internal/devstack/maven"
	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/devstack/stacktest"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// properties are the lines of a file in Java's form, as our files use it: no escapes, no continued lines.
func properties(text string) map[string]string {
	found := make(map[string]string)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		found[key] = value
	}
	return found
}

func TestContainersRunTheVersionsOfTheStackWithoutDocker(t *testing.T) {
	t.Parallel()
	var pom struct {
		Kafka    string `xml:"properties>kafka.version"`
		Debezium string `xml:"properties>debezium.version"`
	}
	if err := xml.Unmarshal([]byte(read(t, "internal", "devstack", "maven", "pom.xml")), &pom); err != nil {
		t.Fatal(err)
	}
	project := everything(t)
	if got, want := project.Services["kafka"].Image, "apache/kafka:"+pom.Kafka; got != want {
		t.Errorf("service kafka runs %s, want %s", got, want)
	}
	stages := dockerfile(t, "connect/Dockerfile")
	if got, want := stages[len(stages)-1].from, "apache/kafka:"+pom.Kafka; got != want {
		t.Errorf("Connect runs on %s, want %s", got, want)
	}
	version, _, _ := strings.Cut(postgres.FetchVersion, "-")
	if got, want := project.Services["postgres"].Image, "postgres:"+strings.TrimSuffix(version, ".0"); got != want {
		t.Errorf("service postgres runs %s, want %s, which is fetched where there is none", got, want)
	}
}

// The worker's file says what internal/devstack/connect says, but for what a container must have otherwise.
func TestTheWorkerHasTheSettingsOfTheStackWithoutDocker(t *testing.T) {
	t.Parallel()
	want := connect.Config{
		Brokers: []string{"kafka:19092"}, Addr: "0.0.0.0:8083", Artifacts: maven.Artifacts{Plugins: "/opt/walpost/plugins"},
		Settings: map[string]string{"exactly.once.source.support": "enabled", "rest.advertised.host.name": "connect"},
	}.Properties("/etc/walpost/secrets")
	if diff := cmp.Diff(want, properties(read(t, "deploy", "connect", "worker.properties"))); diff != "" {
		t.Errorf("settings of the worker (-internal/devstack/connect +deploy/connect/worker.properties):\n%s", diff)
	}
}

// The image's own tool makes the broker's properties of the environment and formats its data folder with them.
func TestTheBrokerHasTheSettingsOfTheStackWithoutDocker(t *testing.T) {
	t.Parallel()
	artifacts := stacktest.Artifacts(t)
	data := t.TempDir()
	got := properties(brokerProperties(t, artifacts, data))

	want, err := kafka.Config{Addr: "127.0.0.1:9092"}.Properties(data)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]string{ // two ways in, and addresses of a container
		"controller.quorum.voters":       "1@127.0.0.1:19093",
		"listeners":                      "PLAINTEXT://0.0.0.0:19092,HOST://0.0.0.0:9092,CONTROLLER://127.0.0.1:19093",
		"advertised.listeners":           "PLAINTEXT://kafka:19092,HOST://127.0.0.1:9092",
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,HOST:PLAINTEXT,CONTROLLER:PLAINTEXT",
	} {
		if want[key] == "" {
			t.Errorf("%s is no setting of internal/devstack/kafka", key)
		}
		want[key] = value
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings of the broker (-internal/devstack/kafka +compose.yaml):\n%s", diff)
	}
	meta, err := os.ReadFile(filepath.Join(data, "meta.properties"))
	if err != nil {
		t.Fatal(err)
	}
	id := value(everything(t).Services["kafka"].Environment, "CLUSTER_ID")
	if got := properties(string(meta))["cluster.id"]; got != id {
		t.Errorf("the data folder has cluster id %q, want %q", got, id)
	}
	if bytes, err := base64.RawURLEncoding.DecodeString(id); err != nil || len(bytes) != 16 { // Kafka's own form; the tool takes any text
		t.Errorf("cluster id %q holds %d bytes in the URL's base64, %v, want 16", id, len(bytes), err)
	}
}

// brokerProperties runs what the image runs before it starts Kafka.
func brokerProperties(t *testing.T, artifacts maven.Artifacts, data string) string {
	t.Helper()
	dir := t.TempDir()
	defaults, mounted, final := filepath.Join(dir, "default"), filepath.Join(dir, "mounted"), filepath.Join(dir, "final")
	const logging = "Configuration:\n  Loggers:\n    Root:\n      level: INFO\n"
	err := errors.Join(
		os.Mkdir(defaults, 0o700), os.Mkdir(mounted, 0o700), os.Mkdir(final, 0o700),
		os.WriteFile(filepath.Join(defaults, "server.properties"), nil, 0o600),
		os.WriteFile(filepath.Join(defaults, "log4j2.yaml"), []byte(logging), 0o600),
		os.WriteFile(filepath.Join(defaults, "tools-log4j2.yaml"), []byte(logging), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), artifacts.Java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", strings.Join(artifacts.ClassPath, ":"),
		"kafka.docker.KafkaDockerWrapper", "setup", "--default-configs-dir", defaults, "--mounted-configs-dir", mounted, "--final-configs-dir", final)
	cmd.Env = []string{}
	for key, value := range everything(t).Services["kafka"].Environment {
		if key == "KAFKA_LOG_DIRS" {
			value = &data
		}
		cmd.Env = append(cmd.Env, key+"="+*value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the image's tool: %v: %s", err, out)
	}
	content, err := os.ReadFile(filepath.Join(final, "server.properties"))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestPostgresHasTheSettingsOfTheStackWithoutDocker(t *testing.T) {
	t.Parallel()
	service := everything(t).Services["postgres"]
	source := read(t, "internal", "devstack", "postgres", "server.go")
	for i, arg := range service.Command {
		if arg == "-c" && !strings.Contains(source, strconv.Quote(service.Command[i+1])) {
			t.Errorf("service postgres sets %s, which internal/devstack/postgres does not", service.Command[i+1])
		}
	}
	for _, want := range []string{"wal_level=logical", "max_wal_senders=20", "max_replication_slots=20"} {
		if !slices.Contains(service.Command, want) {
			t.Errorf("service postgres runs %q, want it to set %s", service.Command, want)
		}
	}
	for arg := range strings.FieldsSeq(value(service.Environment, "POSTGRES_INITDB_ARGS")) {
		if !strings.Contains(source, strconv.Quote(arg)) {
			t.Errorf("initdb is called with %s, which internal/devstack/postgres does not do", arg)
		}
	}
}

// A JVM takes up to some 250 MiB more than its heap; a limit below that kills it under load.
func TestJavaFitsIntoItsMemory(t *testing.T) {
	t.Parallel()
	project := everything(t)
	for name, option := range map[string]string{"kafka": "kafka-heap", "connect": "connect-heap"} {
		service := project.Services[name]
		heap, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(value(service.Environment, "KAFKA_HEAP_OPTS"), "-Xmx"), "m"))
		if err != nil {
			t.Fatalf("heap of service %s: %v", name, err)
		}
		for _, o := range config.Options() {
			if o.Name == option && o.Default != heap {
				t.Errorf("service %s has a heap of %d MiB, want %v as the default of --%s", name, heap, o.Default, option)
			}
		}
		if limit := int64(service.MemLimit) >> 20; limit < int64(heap)+250 {
			t.Errorf("service %s has a limit of %d MiB for a heap of %d, want at least 250 more", name, limit, heap)
		}
	}
}
