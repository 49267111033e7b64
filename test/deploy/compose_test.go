// Package deploy_test holds the files of deploy/ against the Compose specification, the commands' defaults and the stack that runs without Docker. It
// starts no container.
package deploy_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/config"
)

// profiles are those that the documentation names, with the services of each beside the common ones.
var profiles = map[string][]string{
	" ":              {}, // the infrastructure alone
	"debezium":       {"connect", "connector"},
	"walpost":        {"relay"},
	"app,debezium":   {"connect", "connector", "api-server", "kafka-consumer", "maintain", "migrate", "slot", "topics"},
	"app,walpost":    {"relay", "api-server", "kafka-consumer", "maintain", "migrate", "slot", "topics"},
	"walpost,absent": {"relay"}, // Compose minds no profile that nobody has
}

var common = []string{"kafka", "kafka-ui", "mailpit", "postgres"}

// load reads the project as `docker compose` does in the current folder, with nothing in the environment but env.
// The loader checks the file against the specification's schema, and that what a service needs is defined and of an active profile.
func load(t *testing.T, files []string, env ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions(files,
		cli.WithEnv(env), cli.WithEnvFiles(), cli.WithDotEnv, cli.WithConfigFileEnv, cli.WithDefaultConfigPath,
		cli.WithEnvFiles(), cli.WithDotEnv, cli.WithDefaultProfiles(),
	)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// everything is the project with all services.
func everything(t *testing.T) *types.Project {
	t.Helper()
	return load(t, []string{filepath.Join("..", "..", "deploy", "compose.yaml")}, "COMPOSE_PROFILES=*")
}

// Not parallel: it changes the folder.
func TestComposeUpNeedsNoFurtherWordAndPublishesWithDebezium(t *testing.T) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{root, filepath.Join(root, "deploy")} {
		t.Chdir(folder)
		project := load(t, nil)
		if want := filepath.Join(root, "deploy"); project.WorkingDir != want {
			t.Errorf("the project in %s works in %s, want %s", folder, project.WorkingDir, want)
		}
		want := slices.Sorted(slices.Values(slices.Concat(common, profiles["debezium"])))
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(project.Services))); diff != "" {
			t.Errorf("services of `docker compose up` in %s (-want +got):\n%s", folder, diff)
		}
	}
}

func TestEveryProfileIsWhole(t *testing.T) {
	t.Parallel()
	for names, services := range profiles {
		project := load(t, []string{filepath.Join("..", "..", "deploy", "compose.yaml")}, "COMPOSE_PROFILES="+names)
		want := slices.Sorted(slices.Values(slices.Concat(common, services)))
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(project.Services))); diff != "" {
			t.Errorf("services with COMPOSE_PROFILES=%s (-want +got):\n%s", names, diff)
		}
		for name, service := range project.Services {
			for other := range service.DependsOn {
				if _, there := project.Services[other]; !there {
					t.Errorf("with COMPOSE_PROFILES=%s service %s waits for %s, which is not in it", names, name, other)
				}
			}
		}
	}
}

var pinned = regexp.MustCompile(`:v?\d+\.\d+[a-z0-9.-]*$`)

func TestImagesArePinned(t *testing.T) {
	t.Parallel()
	for name, service := range everything(t).Services {
		if service.Build == nil && !pinned.MatchString(service.Image) {
			t.Errorf("service %s runs %s, want a version", name, service.Image)
		}
	}
	for _, file := range []string{"Dockerfile", "connect/Dockerfile"} {
		for _, stage := range dockerfile(t, file) {
			if stage.from != "scratch" && !pinned.MatchString(stage.from) {
				t.Errorf("deploy/%s builds from %s, want a version", file, stage.from)
			}
			if host, _, ok := strings.Cut(stage.from, "/"); ok && strings.ContainsAny(host, ".:") {
				t.Errorf("deploy/%s builds from %s, want a name without a registry's host", file, stage.from)
			}
		}
	}
}

// without says why a service does without something that all others have.
var without = map[string]map[string]string{
	"health check": {
		"migrate": "it ends", "slot": "it ends", "topics": "it ends",
		"maintain": "it serves nothing and sleeps most of the time; when it fails it ends and is started again",
	},
	"read-only file system": {
		"kafka":    "the image writes its settings into /opt/kafka/config",
		"kafka-ui": "its maker says nothing about where it writes",
	},
}

func TestServicesAreContained(t *testing.T) {
	t.Parallel()
	project := everything(t)
	for name, service := range project.Services {
		for what, has := range map[string]bool{
			"health check":          service.HealthCheck != nil && len(service.HealthCheck.Test) > 1,
			"read-only file system": service.ReadOnly,
			"memory limit":          service.MemLimit > 0,
			"no capability":         slices.Equal(service.CapDrop, []string{"ALL"}) && len(service.CapAdd) == 0,
			"no new privileges":     slices.Contains(service.SecurityOpt, "no-new-privileges:true"),
			"restart policy":        service.Restart != "",
			"bounded log":           service.Logging != nil && service.Logging.Driver == "local",
		} {
			reason := without[what][name]
			if has == (reason != "") {
				t.Errorf("service %s: %s is %v, and the reason to do without is %q", name, what, has, reason)
			}
		}
		if service.Privileged || service.NetworkMode == "host" || service.Pid != "" || service.User == "root" || service.User == "0" {
			t.Errorf("service %s has rights over this machine", name)
		}
		for _, volume := range service.Volumes {
			if volume.Type != types.VolumeTypeVolume {
				t.Errorf("service %s mounts %s of this machine", name, volume.Source)
			}
		}
	}
	for what, services := range without {
		for name := range services {
			if _, there := project.Services[name]; !there {
				t.Errorf("the exception %s names service %s, which is not there", what, name)
			}
		}
	}
}

func TestWhatIsWaitedForCanCome(t *testing.T) {
	t.Parallel()
	project := everything(t)
	for name, service := range project.Services {
		for other, dependency := range service.DependsOn {
			target := project.Services[other]
			switch dependency.Condition {
			case types.ServiceConditionHealthy:
				if target.HealthCheck == nil {
					t.Errorf("service %s waits for %s to be healthy, which has no health check", name, other)
				}
			case types.ServiceConditionCompletedSuccessfully:
				if target.Restart != "on-failure" {
					t.Errorf("service %s waits for %s to end, which is started again: %s", name, other, target.Restart)
				}
			default:
				t.Errorf("service %s waits for %s to be %s, want healthy or completed", name, other, dependency.Condition)
			}
		}
	}
}

// The commands' defaults are the addresses at which the services are found on this machine.
func TestPublishedPortsAreTheCommandsDefaultsAndOfThisMachineAlone(t *testing.T) {
	t.Parallel()
	defaults := make(map[string]any)
	for _, option := range config.Options() {
		defaults[option.Name] = option.Default
	}
	want := map[string]string{ // by address, who answers there
		defaults["postgres-addr"].(string):      "postgres",
		defaults["kafka-brokers"].([]string)[0]: "kafka",
		defaults["connect-addr"].(string):       "connect",
		defaults["console-addr"].(string):       "kafka-ui",
		defaults["smtp-addr"].(string):          "mailpit",
		"127.0.0.1" + defaults["addr"].(string): "api-server",
		"127.0.0.1:8025":                        "mailpit", // its page
	}
	got := make(map[string]string)
	project := everything(t)
	for name, service := range project.Services {
		for _, port := range service.Ports {
			got[fmt.Sprintf("%s:%s", port.HostIP, port.Published)] = name
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("published addresses (-defaults of the commands +compose.yaml):\n%s", diff)
	}
	if got, want := defaults["database-url"], "postgres://walpost@"+defaults["postgres-addr"].(string)+"/walpost?sslmode=disable"; got != want {
		t.Errorf("default of --database-url = %v, want %s, which needs no password", got, want)
	}
	if got, want := defaults["connect-url"], "http://"+defaults["connect-addr"].(string); got != want {
		t.Errorf("default of --connect-url = %v, want %s", got, want)
	}
	database := project.Services["postgres"].Environment
	for key, want := range map[string]string{"POSTGRES_USER": "walpost", "POSTGRES_DB": "walpost", "POSTGRES_HOST_AUTH_METHOD": "trust"} {
		if got := value(database, key); got != want {
			t.Errorf("postgres has %s=%s, want %s as in the default of --database-url", key, got, want)
		}
	}
}

func value(env types.MappingWithEquals, key string) string {
	if v := env[key]; v != nil {
		return *v
	}
	return ""
}
