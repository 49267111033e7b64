package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// PathConfig says what RunPath measures.
type PathConfig struct {
	Stack Stack

	Deliveries []string      // of walpost's relay; required
	Against    []string      // names of Carrying; default all of them
	Clients    int           // that register at once, each again as soon as it is answered; default 2
	Duration   time.Duration // of a measurement; default 10 s
	Repeats    int           // default 3
	Command    string        // that made the run, for the report
}

func (c PathConfig) withDefaults() PathConfig {
	if c.Against == nil {
		c.Against = Carrying()
	}
	c.Clients = cmp.Or(c.Clients, 2)
	c.Duration = cmp.Or(c.Duration, 10*time.Second)
	c.Repeats = cmp.Or(c.Repeats, 3)
	return c
}

func (c PathConfig) validate() error {
	reads := slices.IndexFunc(c.Against, onlyReads)
	switch {
	case reads >= 0:
		return fmt.Errorf("%s carries nothing: it has no whole way to measure", c.Against[reads])
	case c.Clients < 1:
		return fmt.Errorf("%d clients: want at least 1", c.Clients)
	}
	return RelayConfig{Against: c.Against, Duration: c.Duration, Repeats: c.Repeats}.Validate()
}

// Validate says what is wrong with the configuration, apart from the stack.
func (c PathConfig) Validate() error { return c.withDefaults().validate() }

// Estimate is about how long RunPath takes on two cores.
func (c PathConfig) Estimate() time.Duration {
	c = c.withDefaults()
	n := len(c.Deliveries) + len(c.Against)
	return 30*time.Second + time.Duration(n*c.Repeats)*(c.Duration+warmup+8*time.Second)
}

// RunPath runs the whole application, from the request to the mail, with each contestant in turn. Registrations are made one after the other by each
// client. A registration without a mail is an error.
func RunPath(ctx context.Context, cfg PathConfig) (results PathResults, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return PathResults{}, err
	}
	list, err := contestants(cfg.Deliveries, cfg.Against)
	if err != nil {
		return PathResults{}, err
	}
	began := time.Now()
	load, err := busy(ctx, time.Second)
	if err != nil {
		return PathResults{}, err
	}
	w, err := open(ctx, cfg.Stack, workersOf(list))
	if err != nil {
		return PathResults{}, err
	}
	defer func() { err = errors.Join(ended(ctx, err), w.close(ctx)) }()
	results = PathResults{Clients: cfg.Clients, Seconds: cfg.Duration.Seconds(), Repeats: cfg.Repeats}
	for _, c := range list {
		results.Contestants = append(results.Contestants, c.about())
	}
	if results.Paths, err = w.paths(ctx, cfg, list, began); err != nil {
		return PathResults{}, err
	}
	results.About = w.about(ctx, cfg.Command, began, load)
	return results, nil
}

func (w *world) paths(ctx context.Context, cfg PathConfig, list []contestant, began time.Time) (paths []Path, err error) {
	app, err := w.startApplication(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, app.stop(context.WithoutCancel(ctx))) }()
	for round := 1; round <= cfg.Repeats; round++ {
		for i, c := range rotated(list, round) {
			p, err := w.walk(ctx, c, app, cfg, "path"+strconv.Itoa(round)+"-"+strconv.Itoa(i))
			if err == nil && p.Lost > 0 {
				err = fmt.Errorf("%d of %d registrations have no mail", p.Lost, p.Registrations)
			}
			if err != nil {
				return nil, fmt.Errorf("path, round %d, %s: %w", round, c.about().Label, err)
			}
			p.Round = round
			w.say("[%6s] path %s  %-26s %s mails/s, POST to mail p50 %s, p99 %s", time.Since(began).Round(time.Second), roundOf(round, cfg.Repeats),
				c.about().Label, digits(p.Rate), ms(p.Hops[HopAll].At(50)), ms(p.Hops[HopAll].At(99)))
			paths = append(paths, p)
		}
	}
	return paths, nil
}

// walk measures the whole way with one contestant.
func (w *world) walk(ctx context.Context, c contestant, app *application, cfg PathConfig, name string) (p Path, err error) {
	l := lane{name: name, slot: slotName(name), topic: name + ".${event_type}"}
	if _, err := w.pool.Exec(ctx, `truncate outbox_events`); err != nil {
		return Path{}, err
	}
	if _, err := w.pool.Exec(ctx, `select pg_create_logical_replication_slot($1, 'pgoutput')`, l.slot); err != nil {
		return Path{}, err
	}
	m := newMeter()
	app.watch(m)
	seen := newSightings()
	r, err := w.begin(ctx, c, l, registered, m, seen.add)
	if err != nil {
		return Path{}, err
	}
	defer func() { err = errors.Join(err, r.end(ctx)) }()
	consumer, err := w.startConsumer(ctx, l, app.smtp)
	if err != nil {
		return Path{}, err
	}
	defer func() { err = errors.Join(err, consumer.stop(context.WithoutCancel(ctx))) }()
	visit := &visit{app: app, lane: l, measured: cfg.Duration}
	if err := visit.first(ctx, func(ctx context.Context) error { return errors.Join(r.carrier.trouble(ctx), consumer.trouble(ctx)) }); err != nil {
		return Path{}, err
	}
	from := m.mark(ctx)
	if err := visit.register(ctx, cfg.Clients); err != nil {
		return Path{}, err
	}
	use := m.between(from, m.mark(ctx))
	if err := visit.awaitMails(ctx); err != nil {
		return Path{}, errors.Join(err, r.carrier.trouble(ctx), consumer.trouble(ctx))
	}
	if p, err = w.hops(ctx, visit, seen); err != nil {
		return Path{}, err
	}
	p.Contestant, p.Use = c.about().Name, use
	return p, nil
}
