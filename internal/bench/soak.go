package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walpost/walpost/relay"
)

// SoakConfig says what RunSoak measures.
type SoakConfig struct {
	Stack Stack

	Deliveries []string      // of walpost's relay, one after the other; required
	Rate       int           // events a second; default 5000
	Duration   time.Duration // of each; default 10 min
	Command    string        // that made the run, for the report
}

func (c SoakConfig) withDefaults() SoakConfig {
	c.Rate = cmp.Or(c.Rate, 5000)
	c.Duration = cmp.Or(c.Duration, 10*time.Minute)
	return c
}

func (c SoakConfig) validate() error {
	known := []string{relay.AtLeastOnce.String(), relay.ExactlyOnce.String()}
	var errs []error
	if len(c.Deliveries) == 0 {
		errs = append(errs, errors.New("no delivery: want at least one"))
	}
	for _, name := range c.Deliveries {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("delivery %q: want one of %s", name, strings.Join(known, ", ")))
		}
	}
	if c.Rate < 1 {
		errs = append(errs, fmt.Errorf("rate %d: want at least 1 a second", c.Rate))
	}
	if c.Duration < 2*time.Second {
		errs = append(errs, fmt.Errorf("duration %v: want at least 2s", c.Duration))
	}
	return errors.Join(errs...)
}

// Validate says everything that is wrong with the configuration, apart from the stack.
func (c SoakConfig) Validate() error { return c.withDefaults().validate() }

// Estimate is about how long RunSoak takes.
func (c SoakConfig) Estimate() time.Duration {
	c = c.withDefaults()
	return 20*time.Second + time.Duration(len(c.Deliveries))*(c.Duration+warmup+8*time.Second)
}

// SoakResults is what RunSoak found.
type SoakResults struct {
	About       About        `json:"about"`
	Rate        int          `json:"rate"`
	Seconds     float64      `json:"seconds"`
	Contestants []Contestant `json:"contestants"`
	Soaks       []Soak       `json:"soaks"`
}

// Soak is a steady load, and what became of memory and of the confirmed position meanwhile. The lists have a value for each second, the highest in it.
type Soak struct {
	Latency
	MemoryMiB  []float64 `json:"memory_mib"`  // of the relay's process
	LagSeconds []float64 `json:"lag_seconds"` // how long ago the oldest log was written that was not confirmed
	LagMiB     []float64 `json:"lag_mib"`     // how much log was not confirmed
}

// RunSoak holds walpost's relay to one rate for a long time, in each delivery. An event that is lost, or has another fault, is an error.
func RunSoak(ctx context.Context, cfg SoakConfig) (results SoakResults, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return SoakResults{}, err
	}
	list, err := contestants(cfg.Deliveries, nil)
	if err != nil {
		return SoakResults{}, err
	}
	began := time.Now()
	load, err := busy(ctx, time.Second)
	if err != nil {
		return SoakResults{}, err
	}
	w, err := open(ctx, cfg.Stack, nil)
	if err != nil {
		return SoakResults{}, err
	}
	defer func() { err = errors.Join(ended(ctx, err), w.close(ctx)) }()
	results = SoakResults{Rate: cfg.Rate, Seconds: cfg.Duration.Seconds()}
	for i, c := range list {
		s, err := w.soak(ctx, c, cfg, fmt.Sprintf("soak%d", i), i)
		if err == nil {
			err = s.Count.fault()
		}
		if err != nil {
			return SoakResults{}, fmt.Errorf("soak, %s: %w", c.about().Label, err)
		}
		results.Contestants, results.Soaks = append(results.Contestants, c.about()), append(results.Soaks, s)
	}
	results.About = w.about(ctx, cfg.Command, began, load)
	return results, nil
}

// soak holds one contestant to the rate, with a watch on its memory and its slot.
func (w *world) soak(ctx context.Context, c contestant, cfg SoakConfig, name string, number int) (soak Soak, err error) {
	w.say("%s, %s events a second for %v", c.about().Label, count(cfg.Rate), cfg.Duration)
	p := pace{rates: []int{cfg.Rate}, duration: cfg.Duration}
	all, err := w.session(ctx, c, p, name, number, func(s *session) error {
		watch := &soakWatch{world: w, slot: s.run.lane.slot, pid: s.run.carrier.pid(), length: cfg.Duration}
		group, ctx := errgroup.WithContext(ctx)
		watching, stop := context.WithCancel(ctx)
		group.Go(func() error { return watch.run(watching) })
		group.Go(func() error {
			defer stop()
			if err := s.warmUp(ctx, cfg.Rate); err != nil {
				return err
			}
			watch.open()
			latency, err := s.steady(ctx, cfg.Rate)
			soak.Latency = latency
			return err
		})
		err := group.Wait()
		soak.MemoryMiB, soak.LagSeconds, soak.LagMiB = watch.memory, watch.lag, watch.behind
		return err
	})
	soak.Contestant, soak.Round, soak.Count = c.about().Name, 1, all
	return soak, err
}
