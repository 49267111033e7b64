package notify

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// States of a row of mail_effects after an attempt.
const (
	statePending = "pending"
	stateSent    = "sent"
	stateFailed  = "failed"
)

// defaultRecordTimeout bounds one try to write down what became of an attempt.
const defaultRecordTimeout = time.Second

// verdict is what became of an attempt.
type verdict struct {
	state  string
	delay  time.Duration // to the next attempt; only when pending
	reason string        // for whoever registered; only when failed

	uncounted bool // it was none; only when pending
}

// deliver makes one attempt at a claimed mail and writes down what became of it. The end of work breaks off the attempt.
func (w *Worker) deliver(work context.Context, e effect, claimed time.Time) {
	log := w.cfg.Logger.With(slog.String("event_id", e.id.String()), slog.Int("attempt", e.attempt))
	v := w.attempt(work, e, claimed, log)
	if err := w.record(work, e, v, claimed.Add(w.cfg.Lease)); err != nil {
		// The row stays started: when its lease ends, the mail is sent again.
		log.Error("the outcome of a mail could not be recorded, it will be sent again", slog.String("state", v.state), slog.Any("error", err))
		return
	}
	if w.cfg.Observer != nil {
		w.cfg.Observer.MailAttempted(v.state, e.age+time.Since(claimed))
	}
}

func (w *Worker) attempt(work context.Context, e effect, claimed time.Time, log *slog.Logger) verdict {
	givenUp := verdict{state: stateFailed, reason: fmt.Sprintf("the mail could not be handed over in %d attempts", w.cfg.Attempts)}
	if e.attempt > w.cfg.Attempts {
		log.Error("a mail is given up, its last worker died")
		return givenUp
	}
	// The deadline counts from before the claim, and so ends before the lease does.
	ctx, cancel := context.WithDeadline(work, claimed.Add(w.cfg.Timeout))
	defer cancel()
	err := w.mailer.send(ctx, e)
	codes, refused := refusal(err)
	switch {
	case err == nil:
		return verdict{state: stateSent}
	case refused:
		log.Warn("a mail was refused", slog.String("error", describe(err)))
		return verdict{state: stateFailed, reason: "the mail server refused the mail (" + codes + ")"}
	case work.Err() != nil:
		// We broke it off ourselves, so it is no attempt, and above all not the last one: the server may well have the mail.
		delay := w.backoff(e.attempt)
		log.Warn("a mail was broken off by the stop and will be tried again", slog.Duration("delay", delay), slog.String("error", describe(err)))
		return verdict{state: statePending, delay: delay, uncounted: true}
	case e.attempt == w.cfg.Attempts:
		log.Error("a mail is given up", slog.String("error", describe(err)))
		return givenUp
	default:
		delay := w.backoff(e.attempt)
		log.Warn("a mail was not sent and will be tried again", slog.Duration("delay", delay), slog.String("error", describe(err)))
		return verdict{state: statePending, delay: delay}
	}
}

// backoff is the pause after an attempt: doubled each time, bounded, and less up to a half, so that what failed together does
// not come back together.
func (w *Worker) backoff(attempt int) time.Duration {
	d := w.cfg.BackoffMin
	for range attempt - 1 {
		if d *= 2; d >= w.cfg.BackoffMax || d <= 0 {
			d = w.cfg.BackoffMax
			break
		}
	}
	return d - rand.N(d/2+1)
}

// record writes a verdict down and tries again while the mail is still this worker's, because a mail whose acceptance is not
// written down is sent twice. After the end of work it tries once more.
func (w *Worker) record(work context.Context, e effect, v verdict, until time.Time) error {
	for pauseFor := 50 * time.Millisecond; ; pauseFor = min(2*pauseFor, time.Second) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(work), w.recordTimeout)
		err := w.write(ctx, e, v)
		cancel()
		if err == nil || work.Err() != nil || time.Now().Add(pauseFor).After(until) {
			return err
		}
		pause(work, pauseFor, nil)
	}
}

// write records the verdict for the effect and its notification in one statement, and so in one transaction.
func (w *Worker) write(ctx context.Context, e effect, v verdict) error {
	var err error
	switch v.state {
	case stateSent:
		// True whatever a later claim has written meanwhile: the server has the mail.
		_, err = w.pool.Exec(ctx, `
			with sent as (
				update mail_effects set state = 'sent', sent_at = now() where id = $1 and state <> 'sent' returning notification_id
			)
			update notifications n set state = 'SENT', sent_at = now(), failed_at = null, failure = null
			from sent where n.id = sent.notification_id`, e.id)
	case stateFailed:
		// This and a retry hold only for the claim they came from.
		_, err = w.pool.Exec(ctx, `
			with failed as (
				update mail_effects set state = 'failed' where id = $1 and state = 'started' and attempts = $2 returning notification_id
			)
			update notifications n set state = 'FAILED', failed_at = now(), failure = $3
			from failed where n.id = failed.notification_id`, e.id, e.attempt, v.reason)
	default:
		uncounted := 0
		if v.uncounted {
			uncounted = 1
		}
		_, err = w.pool.Exec(ctx, `
			update mail_effects set state = 'pending', next_attempt_at = now() + $3::interval, attempts = attempts - $4::int
			where id = $1 and state = 'started' and attempts = $2`,
			e.id, e.attempt, v.delay, uncounted)
	}
	if err != nil {
		return fmt.Errorf("record the mail of event %s as %s: %w", e.id, v.state, err)
	}
	return nil
}
