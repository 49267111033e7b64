package notify

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walpost/walpost/app"
	"github.com/walpost/walpost/outbox"
)

// claimTimeout bounds a claim, so that a database that does not answer is asked again on another connection.
const claimTimeout = 10 * time.Second

// Worker sends recorded mails. Any number of them, in one process or many, share the work. A mail is sent at least once: it is
// sent again, with the same Message-ID, when a worker dies or loses the database between the server's acceptance and writing
// that down. It is made by New.
type Worker struct {
	pool   *pgxpool.Pool
	cfg    Config
	mailer *mailer

	recordTimeout time.Duration
}

// New returns a Worker over the database of pool, which stays the caller's; one more connection is made to listen. It refuses a
// configuration that cannot work, naming every fault, but does not connect.
func New(pool *pgxpool.Pool, cfg Config) (*Worker, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("mail worker: %w", err)
	}
	m, err := cfg.SMTP.resolve()
	if err != nil {
		return nil, fmt.Errorf("mail worker: %w", err)
	}
	return &Worker{pool: pool, cfg: cfg, mailer: m, recordTimeout: defaultRecordTimeout}, nil
}

// Run sends mails until ctx ends, and returns nil after the mails then on their way were settled, at most Drain and two seconds
// later. It outlives failures of the database and of the mail server.
func (w *Worker) Run(ctx context.Context) error {
	// work outlives ctx: a mail on its way gets the time of Drain to arrive.
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(w.cfg.Drain, giveUp) })
	defer stop()

	wake := make(chan struct{}, 1)
	var listener sync.WaitGroup
	listener.Go(func() { w.listen(ctx, wake) })
	defer listener.Wait()
	w.dispatch(ctx, work, wake)
	return nil
}

// dispatch claims as many due mails as there are free slots and sends each on a goroutine, all of which have ended when it
// returns.
func (w *Worker) dispatch(ctx, work context.Context, wake <-chan struct{}) {
	slots := make(chan struct{}, w.cfg.Concurrency)
	var mails sync.WaitGroup
	defer mails.Wait()
	for {
		free := occupy(ctx, slots)
		if free == 0 {
			return
		}
		claimed := time.Now()
		effects, err := w.claim(work, free)
		if err != nil && ctx.Err() == nil {
			w.cfg.Logger.Warn("mails could not be claimed", slog.Any("error", err))
		}
		for range free - len(effects) {
			<-slots
		}
		for _, e := range effects {
			mails.Go(func() {
				defer func() { <-slots }()
				w.deliver(work, e, claimed)
			})
		}
		if len(effects) < free {
			pause(ctx, w.cfg.Poll, wake)
		}
	}
}

// occupy waits for a free slot, takes it and all others that are free, and returns how many; 0 when ctx has ended.
func occupy(ctx context.Context, slots chan<- struct{}) int {
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return 0 // both may have been possible; no slot is missed any more
	}
	for n := 1; ; n++ {
		select {
		case slots <- struct{}{}:
		default:
			return n
		}
	}
}

// pause waits for the duration, a wake-up or the end of ctx.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// listen wakes dispatch when a mail is recorded, and once after each time nobody listened.
func (w *Worker) listen(ctx context.Context, wake chan<- struct{}) {
	for ctx.Err() == nil {
		if err := w.listenOnce(ctx, wake); ctx.Err() == nil {
			w.cfg.Logger.Warn("mails are found by polling until the listener is connected", slog.Any("error", err))
			pause(ctx, w.cfg.Poll, nil)
		}
	}
}

func (w *Worker) listenOnce(ctx context.Context, wake chan<- struct{}) error {
	conn, err := pgx.ConnectConfig(ctx, w.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer w.hangUp(ctx, conn)
	if _, err := conn.Exec(ctx, "listen "+channel); err != nil {
		return err
	}
	for {
		select {
		case wake <- struct{}{}:
		default: // dispatch has not followed the last call yet
		}
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

func (w *Worker) hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // nothing is lost with it
}

// effect is a claimed row of mail_effects.
type effect struct {
	id        outbox.EventID
	recipient app.Email
	kind      app.Kind
	attempt   int           // this one, from 1; no later claim has the same, unless this one gave it back, and so it tells them apart
	age       time.Duration // since the row was written, at the claim
}

// claim marks up to limit due mails as started and commits that before any of them leaves. A started mail is due again when its
// lease ends: its worker has died. Rows that another worker is claiming are passed over. It is given the context that outlives
// the end of Run: a claim broken off might have been committed, and its mails would wait for the lease.
func (w *Worker) claim(work context.Context, limit int) ([]effect, error) {
	ctx, cancel := context.WithTimeout(work, claimTimeout)
	defer cancel()
	rows, err := w.pool.Query(ctx, `
		with due as materialized (
			select id from mail_effects where state in ('pending', 'started') and next_attempt_at <= now()
			order by next_attempt_at limit $1 for update skip locked
		)
		update mail_effects e set state = 'started', attempts = attempts + 1, started_at = now(), next_attempt_at = now() + $2::interval
		from due where e.id = due.id
		returning e.id, e.recipient, e.kind, e.attempts, now() - e.created_at`, limit, w.cfg.Lease)
	if err != nil {
		return nil, fmt.Errorf("claim mails: %w", err)
	}
	effects, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (effect, error) {
		var e effect
		err := row.Scan(&e.id, &e.recipient, &e.kind, &e.attempt, &e.age)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("claim mails: %w", err)
	}
	return effects, nil
}
