package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/devstack/stack"
	"github.com/walpost/walpost/internal/ops"
)

// banner is what dev tells when it is ready, for machines; the text for people says the same.
type banner struct {
	Version     string         `json:"version"`
	PID         int            `json:"pid"`
	Console     string         `json:"console"`
	API         string         `json:"api"`
	Docs        string         `json:"docs"`
	Kafka       string         `json:"kafka"`
	Connect     string         `json:"connect,omitempty"` // of the real stack
	Relay       string         `json:"relay"`             // who carries the events
	Broker      string         `json:"broker"`
	Postgres    string         `json:"postgres"`
	Server      postgresServer `json:"postgres_server"`
	Metrics     string         `json:"metrics"`
	Mails       string         `json:"mails"`
	SMTP        string         `json:"smtp"`
	DataDir     string         `json:"data_dir"`
	FirstRun    bool           `json:"first_run"`
	Recovered   bool           `json:"recovered"`
	Events      int64          `json:"events"`
	DeadLetters int64          `json:"dead_letters"`
	ReadyMillis int64          `json:"ready_ms"` // from the start of the command
}

type postgresServer struct {
	Version  string `json:"version"`
	Programs string `json:"programs"`       // their folder
	Origin   string `json:"origin"`         // how they were found
	User     string `json:"user,omitempty"` // who runs them, when that is not the user who runs dev
}

// greet says where everything is. On the first run it makes the sample registration.
func (d *dev) greet(ctx context.Context) error {
	if err := d.data.lock.Describe("http://" + d.where.console); err != nil {
		return err
	}
	b := d.banner(d.sources.Status(ctx))
	if d.cfg.Output != "table" {
		if err := d.program.print(b, nil); err != nil {
			return err
		}
		if b.FirstRun {
			d.sample(ctx) // its report is for people
		}
		return nil
	}
	if err := d.print(d.text(b)); err != nil {
		return err
	}
	if b.FirstRun {
		return d.print(d.sample(ctx))
	}
	return d.print(fmt.Sprintf("continuing: %s, %s\n", plural(b.Events, "event"), plural(b.DeadLetters, "dead letter")))
}

func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

func (d *dev) print(text string) error {
	if d.cfg.Quiet {
		return nil
	}
	if _, err := fmt.Fprint(d.program.stdout, text); err != nil {
		return fmt.Errorf("print the banner: %w", err)
	}
	return nil
}

func (d *dev) banner(st devstack.Status) banner {
	b := banner{
		Version: ops.ReadBuild().Version, PID: os.Getpid(),
		Console: "http://" + d.where.console, API: "http://" + d.where.api + "/api/v1", Docs: "http://" + d.where.api + "/docs",
		Kafka: d.where.kafka, Broker: d.runsOn(), Relay: d.cfg.Relay,
		Postgres: fmt.Sprintf("postgres://walpost@%s/%s", d.where.postgres, devDatabase),
		Server: postgresServer{
			Version: d.binaries.Version, Programs: d.binaries.Dir, Origin: d.binaries.Origin, User: serverUser(d.data.postgres()),
		},
		Metrics: "http://" + d.where.ops + "/metrics", Mails: "http://" + d.where.console + "/mails", SMTP: d.where.smtp,
		DataDir: d.data.dir, FirstRun: st.Counts.OutboxRows == 0 && st.Counts.Registrations == 0, Recovered: d.recovered,
		Events: st.Counts.OutboxRows, DeadLetters: st.Kafka.DeadLetters, ReadyMillis: time.Since(d.began).Milliseconds(),
	}
	if d.onRealStack() {
		b.Server = postgresServer{Version: d.real.Server(stack.PostgreSQL).Version, Origin: "of the real stack"}
		b.Connect, b.DataDir = d.real.ConnectURL, d.real.Dir
	}
	return b
}

// text is the banner for people: at most eleven lines, so that with the one that follows it they are a dozen.
func (d *dev) text(b banner) string {
	var text strings.Builder
	by := b.Server.Origin
	if b.Server.User != "" {
		by += ", run by user " + b.Server.User
	}
	line := func(name, value, remark string) {
		fmt.Fprintln(&text, strings.TrimRight(fmt.Sprintf("  %-9s %-44s %s", name, value, remark), " "))
	}
	fmt.Fprintf(&text, "walpost %s dev: PostgreSQL %s (%s), %s\n", b.Version, b.Server.Version, by, b.Broker)
	line("Console", b.Console, "")
	line("API", b.API, "docs "+b.Docs)
	line("Kafka", b.Kafka, "")
	if b.Connect != "" {
		line("Connect", b.Connect, "stop the stack: "+d.program.stackCommand("down"))
	}
	line("Postgres", b.Postgres, "")
	line("Metrics", b.Metrics, "")
	line("Mail", b.Mails, "nothing leaves, SMTP "+b.SMTP)
	line("Data", tilde(b.DataDir), "empty it: "+d.resetCommand())
	fmt.Fprintf(&text, "Try   %s\nStop  Ctrl-C\n", strings.ReplaceAll(curl(d.where.api), "\n", "\n      "))
	return text.String()
}

// curl is a registration to try.
func curl(api string) string {
	return "curl -i " + api + "/api/v1/users -H 'Content-Type: application/json' \\\n  -d '" + sampleBody("ada@example.com") + "'"
}

// resetCommand is what to type to begin anew.
func (d *dev) resetCommand() string {
	if d.onRealStack() {
		return d.program.stackCommand("reset")
	}
	command := programName() + " dev --reset"
	if d.cfg.Origin("data-dir") == "flag --data-dir" {
		command += " --data-dir " + tilde(d.data.dir)
	}
	return command
}

// tilde writes a path below the home folder as a shell reads it.
func tilde(path string) string {
	home, err := os.UserHomeDir()
	if err != nil || home == "" || home == "/" {
		return path
	}
	if rest, below := strings.CutPrefix(path, home+string(filepath.Separator)); below {
		return filepath.Join("~", rest)
	}
	return path
}
