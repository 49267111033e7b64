package cli

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/app/notify"
	"github.com/walpost/walpost/inbox"
	"github.com/walpost/walpost/internal/config"
	"github.com/walpost/walpost/internal/ops"
)

const (
	// mailConns is how many connections of the pool the mail worker needs besides the handlers': one for each of the four mails that are sent
	// at a time, one to claim. The one to listen on is none of the pool's.
	mailConns = 5

	// mailDrain is as long as the handlers have: a mail that is broken off may have been taken, and is sent again.
	mailDrain = 25 * time.Second
)

func newKafkaConsumerCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kafka-consumer",
		Short: "Apply the events once and send the mails",
		Long: `Apply the events of the topics in the database, each exactly once, and send the mails that they ask for. A message that cannot be handled goes
to the dead-letter topic. A database or broker that is away is waited for. SIGTERM lets handlers and mails finish for 25
seconds; with a database or broker that hangs it takes up to 45 until the process has ended.

With --forward it also reads the rows that a raw connector publishes (walpost connector apply --raw) and carries each to the topic of its event, in
Kafka transactions: exactly once for whoever reads with isolation level read_committed. Give it an --instance-id: started again after a crash under
the same name it ends the crashed one's transaction at once, which otherwise readers wait for until it times out.`,
		Example: `  walpost kafka-consumer --database-url postgres://app@db/orders --kafka-brokers kafka:9092 --smtp-addr mail:587
  walpost kafka-consumer --forward --instance-id consumer-0`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.serve(cmd.Context(), "walpost-consumer", func(ctx context.Context, cfg config.Config, o *ops.Ops) error {
				return consume(ctx, cfg, o, mailDrain)
			})
		},
	}
	config.Flags(cmd.Flags(), "database-url", "kafka-brokers", "group", "topics", "dead-letter-topic", "position-mismatch", "concurrency", "instance-id", "session-timeout",
		"forward", "forward-group", "raw-topic", "topic", "create-topics", "smtp-addr", "smtp-from", "smtp-tls", "smtp-username", "ops-addr=127.0.0.1:9465", "ops-public")
	return cmd
}

// runConsumer is the consumer within another server: it leaves its mails little time, since the mail server stops soon after.
func runConsumer(ctx context.Context, cfg config.Config, o *ops.Ops) error {
	return consume(ctx, cfg, o, 0)
}

// consume runs the consumer of the reference application and its mail worker until ctx ends, then drains both. For mails is how long mails on
// their way may take then; zero: the worker's default.
func consume(ctx context.Context, cfg config.Config, o *ops.Ops, forMails time.Duration) error {
	forward, err := newForwarder(cfg, o)
	if err != nil {
		return misuse(err)
	}
	pool, err := openPool(ctx, cfg, o, cfg.Concurrency+mailConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := migrated(ctx, cfg, pool); err != nil {
		return err
	}
	cfg.Raw = cfg.Forward // which topics are needed is said by the consumer's own flag
	stopChecks, err := checkKafka(cfg, o, allTopics(cfg)...)
	if err != nil {
		return err
	}
	defer stopChecks()
	observer := o.InboxObserver(cfg.Group)
	defer observer.Stop()
	consumer, err := inbox.New(pool, inbox.Config{
		Brokers:          cfg.KafkaBrokers,
		ClientOptions:    membership(cfg),
		Group:            cfg.Group,
		Topics:           cfg.Topics,
		Handlers:         map[string]inbox.TxHandler{app.UserRegistered: notify.Handler},
		DeadLetterTopic:  cfg.DeadLetterTopic,
		Concurrency:      cfg.Concurrency,
		PositionMismatch: inbox.PositionMismatch(cfg.PositionMismatch),
		Logger:           o.Log,
		Observer:         observer,
	})
	if err != nil {
		return misuse(err)
	}
	worker, err := mailWorker(pool, cfg, o, forMails)
	if err != nil {
		return misuse(err)
	}
	o.Health.Register("consumer", func(context.Context) error { return consumer.Ready() })
	o.Health.Started()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return consumer.Run(ctx) })
	group.Go(func() error { return worker.Run(ctx) })
	if forward != nil {
		group.Go(func() error { return forward(ctx) })
	}
	return group.Wait()
}

func mailWorker(pool *pgxpool.Pool, cfg config.Config, o *ops.Ops, drain time.Duration) (*notify.Worker, error) {
	return notify.New(pool, notify.Config{
		SMTP: notify.SMTP{
			Addr: cfg.SMTPAddr, From: cfg.SMTPFrom, TLS: notify.TLSMode(cfg.SMTPTLS), Username: cfg.SMTPUsername, Password: cfg.SMTPPassword,
		},
		Drain:    drain,
		Logger:   o.Log,
		Observer: o.MailObserver(),
	})
}

// membership says how the group knows this consumer. One with an instance id does not leave when it stops: the group waits for it as long as the
// session lasts.
func membership(cfg config.Config) []kgo.Opt {
	opts := []kgo.Opt{kgo.SessionTimeout(cfg.SessionTimeout)}
	if cfg.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(cfg.InstanceID))
	}
	return opts
}
