package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// visit is what the clients of one measurement of the whole way do.
type visit struct {
	app      *application
	lane     lane
	measured time.Duration

	from, until time.Time // of the measurement

	mu    sync.Mutex // protects posts
	posts []post
}

// post is one registration that was answered.
type post struct {
	email string
	sent  time.Time
}

// first registers until a mail comes, which proves that all parts work. Those registrations are not measured.
func (v *visit) first(ctx context.Context, trouble func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stallLimit, errors.New("no mail comes"))
	defer cancel()
	for n := 0; ; n++ {
		email := fmt.Sprintf("%s-first%d@example.com", v.lane.name, n)
		err := v.post(ctx, email)
		if err == nil {
			err = v.wait(ctx, email, 2*time.Second)
		}
		if err == nil {
			return nil
		}
		if pause(ctx, probePeriod) != nil {
			return errors.Join(context.Cause(ctx), err, trouble(context.WithoutCancel(ctx)))
		}
	}
}

// wait returns nil when a mail to the address has come.
func (v *visit) wait(ctx context.Context, email string, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for len(v.app.mail.mails(email)) == 0 {
		select {
		case <-v.app.mail.changed:
		case <-timer.C:
			return fmt.Errorf("no mail to %s within %v", email, limit)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// register has the clients register for the warm-up and the time measured.
func (v *visit) register(ctx context.Context, clients int) error {
	v.from = time.Now().Add(warmup)
	v.until = v.from.Add(v.measured)
	group, ctx := errgroup.WithContext(ctx)
	for client := range clients {
		group.Go(func() error {
			for n := 0; time.Now().Before(v.until); n++ {
				sent := time.Now()
				email := fmt.Sprintf("%s-%d-%d@example.com", v.lane.name, client, n)
				if err := v.post(ctx, email); err != nil {
					return err
				}
				v.mu.Lock()
				v.posts = append(v.posts, post{email, sent})
				v.mu.Unlock()
			}
			return nil
		})
	}
	return group.Wait()
}

func (v *visit) post(ctx context.Context, email string) error {
	body := fmt.Sprintf(`{"email":%q,"password":"a-password-for-the-bench"}`, email)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, v.app.url+"/api/v1/users", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := v.app.http.Do(req)
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read to the end
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return nil
}

// awaitMails returns when every registration has its mail, or none has come for a while: the count will tell.
func (v *visit) awaitMails(ctx context.Context) error {
	for _, p := range v.posts {
		if err := v.wait(ctx, p.email, stallLimit); ctx.Err() != nil {
			return err
		} else if err != nil {
			return nil
		}
	}
	return nil
}

// trace is what the database knows of an event.
type trace struct {
	ID        string
	Email     string
	Committed time.Time
	Applied   *time.Time // nil: not yet
}

// hops follows every registration of the time measured from the request to the mail.
func (w *world) hops(ctx context.Context, v *visit, seen *sightings) (Path, error) {
	rows, err := w.pool.Query(ctx, `
		select o.id::text, o.payload->>'email', pg_xact_commit_timestamp(o.xmin), pg_xact_commit_timestamp(i.xmin)
		from outbox_events o left join inbox i on i.msg_id = o.id`)
	if err != nil {
		return Path{}, err
	}
	traces, err := pgx.CollectRows(rows, pgx.RowToStructByPos[trace])
	if err != nil {
		return Path{}, err
	}
	byEmail := make(map[string]trace, len(traces))
	for _, t := range traces {
		byEmail[t.Email] = t
	}
	var p Path
	waits := make(map[string][]time.Duration)
	for _, post := range v.posts {
		mails := v.app.mail.mails(post.email)
		if len(mails) > 0 && mails[0].After(v.from) && mails[0].Before(v.until) {
			p.Mails++
		}
		p.Doubled += max(len(mails)-1, 0)
		if post.sent.Before(v.from) {
			continue
		}
		p.Registrations++
		t := byEmail[post.email]
		published, ok := seen.of(t.ID)
		if len(mails) == 0 || !ok || t.Applied == nil {
			p.Lost++
			continue
		}
		for hop, d := range map[string]time.Duration{
			HopRequest: t.Committed.Sub(post.sent), HopPublish: published.Sub(t.Committed), HopApply: t.Applied.Sub(published),
			HopMail: mails[0].Sub(*t.Applied), HopAll: mails[0].Sub(post.sent),
		} {
			waits[hop] = append(waits[hop], max(d, 0))
		}
	}
	p.Rate = round(float64(p.Mails)/v.measured.Seconds(), 1)
	p.Hops = make(map[string]Curve)
	for hop, list := range waits {
		p.Hops[hop] = curve(list)
	}
	return p, nil
}
