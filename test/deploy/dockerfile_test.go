package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// stage is a part of a Dockerfile from one FROM to the next.
type stage struct {
	from, name   string
	instructions []string // one line each
}

func (s stage) all(keyword string) (args []string) {
	for _, line := range s.instructions {
		if word, rest, _ := strings.Cut(line, " "); word == keyword {
			args = append(args, strings.TrimSpace(rest))
		}
	}
	return args
}

var keywords = []string{"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "USER", "WORKDIR"}

// dockerfile reads a file of deploy/, which has no continued lines.
func dockerfile(t *testing.T, name string) (stages []stage) {
	t.Helper()
	for line := range strings.Lines(read(t, "deploy", filepath.FromSlash(name))) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case !slices.Contains(keywords, word), strings.HasSuffix(line, `\`):
			t.Fatalf("deploy/%s: cannot read %q", name, line)
		case word == "FROM":
			from, as, _ := strings.Cut(rest, " AS ")
			stages = append(stages, stage{from: from, name: as})
		case len(stages) == 0:
			t.Fatalf("deploy/%s: %q before FROM", name, line)
		default:
			last := &stages[len(stages)-1]
			last.instructions = append(last.instructions, line)
		}
	}
	return stages
}

func TestTheImageHoldsWhatMakeBuildMakes(t *testing.T) {
	t.Parallel()
	stages := dockerfile(t, "Dockerfile")
	if len(stages) != 2 {
		t.Fatalf("deploy/Dockerfile has %d stages, want 2", len(stages))
	}
	build, image := stages[0], stages[1]
	if run := build.all("RUN"); len(run) != 1 || !strings.HasSuffix(run[0], " make build") {
		t.Errorf("deploy/Dockerfile runs %q, want `make build` alone", run)
	}
	if got, want := image.all("COPY"), "--from=build /src/bin/walpost /walpost"; !slices.Contains(got, want) {
		t.Errorf("the image takes %q, want %s", got, want)
	}
	if image.from != "scratch" || len(image.all("RUN")) > 0 {
		t.Errorf("the image is made from %s and runs %q, want nothing but copies from scratch", image.from, image.all("RUN"))
	}
	makefile := read(t, "Makefile")
	if recipe := regexp.MustCompile(`(?m)^build:.*\n\t(.*)`).FindString(makefile); !strings.Contains(recipe, "CGO_ENABLED=0 go build") || !strings.Contains(recipe, "-o bin/walpost ") {
		t.Errorf("make build is %q, want a static bin/walpost", recipe)
	}
}

func TestTheToolchainIsNewEnough(t *testing.T) {
	t.Parallel()
	wanted := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.mod"))[1]
	if from := dockerfile(t, "Dockerfile")[0].from; !strings.HasPrefix(from, "golang:"+wanted+".") {
		t.Errorf("deploy/Dockerfile builds with %s, want Go %s as in go.mod", from, wanted)
	}
}

func TestNoImageRunsAsRoot(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"Dockerfile", "connect/Dockerfile"} {
		stages := dockerfile(t, file)
		users := stages[len(stages)-1].all("USER")
		if len(users) != 1 || strings.HasPrefix(users[0], "root") || strings.HasPrefix(users[0], "0") {
			t.Errorf("deploy/%s runs as %q, want one user that is not root", file, users)
		}
	}
}

func TestWhatIsCopiedIsThere(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"Dockerfile", "connect/Dockerfile"} {
		for _, stage := range dockerfile(t, file) {
			for _, copied := range stage.all("COPY") {
				words := strings.Fields(copied)
				if strings.HasPrefix(words[0], "--from=") {
					continue
				}
				for _, source := range words[:len(words)-1] {
					if _, err := os.Stat(filepath.Join("..", "..", source)); err != nil {
						t.Errorf("deploy/%s copies %s: %v", file, source, err)
					}
				}
			}
		}
	}
}

// The plugins come by the pom that the stack without Docker uses, and are compared with the same sums.
func TestConnectHasThePinnedPlugins(t *testing.T) {
	t.Parallel()
	stages := dockerfile(t, "connect/Dockerfile")
	fetch, image := stages[0], stages[len(stages)-1]
	run := strings.Join(fetch.all("RUN"), "\n")
	for _, want := range []string{"mvn --batch-mode --file pom.xml -Dstack.dir=/stack process-resources", "sha256sum --check"} {
		if !strings.Contains(run, want) {
			t.Errorf("deploy/connect/Dockerfile runs %q, want %s", run, want)
		}
	}
	worker := properties(read(t, "deploy", "connect", "worker.properties"))
	path := worker["plugin.path"]
	if want := "--from=" + fetch.name + " /stack/plugins " + path; !slices.Contains(image.all("COPY"), want) {
		t.Errorf("the image of Connect takes %q, want %s, where the worker looks for plugins", image.all("COPY"), want)
	}
	if got, want := image.all("WORKDIR"), worker["config.providers.file.param.allowed.paths"]; len(got) != 1 || got[0] != want { // WORKDIR makes it
		t.Errorf("the image of Connect has the folder %q, want %s, without which the worker does not start", got, want)
	}
	if got, want := image.all("CMD"), `["/opt/kafka/bin/connect-distributed.sh", "/etc/walpost/worker.properties"]`; len(got) != 1 || got[0] != want {
		t.Errorf("the image of Connect runs %q, want %s", got, want)
	}
}
