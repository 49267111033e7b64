package cli

import (
	"context"

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

// mailConns is how many connections the mail worker needs besides the handlers': one a mail, one to listen, one to claim.
const mailConns = 6

func newKafkaConsumerCommand(p *program) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kafka-consumer",
		Short: "Apply the events once and send the mails",
		Long: `Apply the events of the topics in the database, each exactly once, and send the mails that they ask for. A message that cannot be handled goes
to the dead-letter topic. A database or broker that is away is waited for. SIGTERM drains within 25 seconds.`,
		Example: "  walpost kafka-consumer --database-url postgres://app@db/orders --kafka-brokers kafka:9092 --smtp-addr mail:587",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.serve(cmd.Context(), "walpost-consumer", runConsumer)
		},
	}
	config.Flags(cmd.Flags(), "database-url", "kafka-brokers", "group", "topics", "dead-letter-topic", "concurrency", "instance-id", "session-timeout",
		"smtp-addr", "smtp-from", "smtp-tls", "smtp-username", "ops-addr=127.0.0.1:9465", "ops-public")
	return cmd
}

// runConsumer runs the consumer of the reference application and its mail worker until ctx ends, then drains both.
func runConsumer(ctx context.Context, cfg config.Config, o *ops.Ops) error {
	pool, err := openPool(ctx, cfg, o, cfg.Concurrency+mailConns)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := migrated(ctx, cfg, pool); err != nil {
		return err
	}
	stopChecks, err := checkKafka(cfg, o, allTopics(cfg)...)
	if err != nil {
		return err
	}
	defer stopChecks()
	observer := o.InboxObserver(cfg.Group)
	defer observer.Stop()
	consumer, err := inbox.New(pool, inbox.Config{
		Brokers:         cfg.KafkaBrokers,
		ClientOptions:   membership(cfg),
		Group:           cfg.Group,
		Topics:          cfg.Topics,
		Handlers:        map[string]inbox.TxHandler{app.UserRegistered: notify.Handler},
		DeadLetterTopic: cfg.DeadLetterTopic,
		Concurrency:     cfg.Concurrency,
		Logger:          o.Log,
		Observer:        observer,
	})
	if err != nil {
		return misuse(err)
	}
	worker, err := mailWorker(pool, cfg, o)
	if err != nil {
		return misuse(err)
	}
	o.Health.Started()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return consumer.Run(ctx) })
	group.Go(func() error { return worker.Run(ctx) })
	return group.Wait()
}

func mailWorker(pool *pgxpool.Pool, cfg config.Config, o *ops.Ops) (*notify.Worker, error) {
	return notify.New(pool, notify.Config{
		SMTP: notify.SMTP{
			Addr: cfg.SMTPAddr, From: cfg.SMTPFrom, TLS: notify.TLSMode(cfg.SMTPTLS), Username: cfg.SMTPUsername, Password: cfg.SMTPPassword,
		},
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
