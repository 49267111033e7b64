package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// RelayConfig says what RunRelay measures.
type RelayConfig struct {
	Stack Stack

	Deliveries []string      // of walpost's relay; required
	Against    []string      // names of Against; default all of them
	Rows       int           // of the backlog; default 300000
	Rates      []int         // events a second at which latency is measured; default 100, 1000, 5000
	Duration   time.Duration // of a measurement of latency; default 8 s
	Alone      int           // events of a round that are written one at a time, each when the one before has arrived; default none
	Repeats    int           // of everything but the huge transaction; default 5
	Command    string        // that made the run, for the report

	Huge        int      // rows of one transaction, which walpost carries in each delivery; default none
	HugeAgainst []string // contestants that carry it too; default none
}

func (c RelayConfig) withDefaults() RelayConfig {
	if c.Against == nil {
		c.Against = Against()
	}
	if c.Rates == nil {
		c.Rates = []int{100, 1000, 5000}
	}
	c.Rows = cmp.Or(c.Rows, 300_000)
	c.Duration = cmp.Or(c.Duration, 8*time.Second)
	c.Repeats = cmp.Or(c.Repeats, 5)
	return c
}

func (c RelayConfig) validate() error {
	var errs []error
	rule := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	for _, name := range c.Against {
		rule(slices.Contains(Against(), name), "contestant %q: want one of %s", name, strings.Join(Against(), ", "))
	}
	rule(c.Rows >= 1000, "%d rows: want at least 1000, or there is nothing to time", c.Rows)
	rule(c.Duration >= time.Second, "duration %v: want at least 1s", c.Duration)
	rule(c.Alone >= 0, "%d events alone: want 0 for none, or more", c.Alone)
	rule(c.Repeats >= 1, "%d repeats: want at least 1", c.Repeats)
	for _, rate := range c.Rates {
		rule(rate >= 1, "rate %d: want at least 1 a second", rate)
	}
	return errors.Join(append(errs, c.validateHuge())...)
}

// Validate says everything that is wrong with the configuration, apart from the stack.
func (c RelayConfig) Validate() error { return c.withDefaults().validate() }

// Estimate is about how long RunRelay takes on two cores.
func (c RelayConfig) Estimate() time.Duration {
	c = c.withDefaults()
	names := slices.Clone(c.Against)
	for _, delivery := range c.Deliveries {
		names = append(names, WalpostWith(delivery))
	}
	drain := 4*time.Second + time.Duration(c.Rows)*10*time.Microsecond
	hold := 5*time.Second + time.Duration(len(c.Rates))*(c.Duration+warmup+time.Second)
	if c.Alone > 0 {
		hold += warmup + aloneLimit*3/4
	}
	sum := 30*time.Second + c.hugeEstimate()
	for _, name := range names {
		rounds := time.Duration(roundsOf(name, c.Repeats))
		sum += (1 + rounds) * drain
		if !onlyReads(name) {
			sum += (1 + rounds) * hold
		}
	}
	return sum
}

// RunRelay measures and returns every measurement. Each contestant does everything once uncounted, so that Java has compiled what it needs; then they
// take turns, in another order each round. When ctx ends, everything that was started has ended when RunRelay returns. A measurement that lost an
// event, or has another fault, is an error.
func RunRelay(ctx context.Context, cfg RelayConfig) (RelayResults, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return RelayResults{}, err
	}
	list, err := contestants(cfg.Deliveries, cfg.Against)
	if err != nil {
		return RelayResults{}, err
	}
	b := &relayBench{cfg: cfg, list: list, began: time.Now()}
	if b.readers, err = findReaders(cfg.Against, cfg.Stack); err != nil {
		return RelayResults{}, err
	}
	return b.run(ctx)
}

// relayBench is one call of RunRelay.
type relayBench struct {
	cfg     RelayConfig
	list    []contestant
	readers []reader
	world   *world
	began   time.Time
	lanes   int // begun so far, for names
	results RelayResults
}

func (b *relayBench) run(ctx context.Context) (results RelayResults, err error) {
	load, err := busy(ctx, time.Second)
	if err != nil {
		return RelayResults{}, err
	}
	if b.world, err = open(ctx, b.cfg.Stack, workersOf(b.list)); err != nil {
		return RelayResults{}, err
	}
	defer func() { err = errors.Join(ended(ctx, err), b.world.close(ctx)) }()
	b.results = RelayResults{Rows: b.cfg.Rows, Rates: b.cfg.Rates, Seconds: b.cfg.Duration.Seconds(), Repeats: b.cfg.Repeats, HugeRows: b.cfg.Huge, AloneWarm: warmup.Seconds()}
	for _, c := range b.list {
		b.results.Contestants = append(b.results.Contestants, c.about())
	}
	for _, r := range b.readers {
		b.results.Contestants = append(b.results.Contestants, r.Contestant)
	}
	if err := b.drains(ctx); err != nil {
		return RelayResults{}, err
	}
	if err := b.latencies(ctx); err != nil {
		return RelayResults{}, err
	}
	if err := b.huge(ctx); err != nil {
		return RelayResults{}, err
	}
	b.results.About = b.world.about(ctx, b.cfg.Command, b.began, load)
	return b.results, nil
}

// ended is the cause of ctx's end in place of what it made fail.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func workersOf(list []contestant) []string {
	var names []string
	for _, c := range list {
		if on, ok := c.(needsWorker); ok {
			names = append(names, on.worker())
		}
	}
	return names
}

// drains does round 0, the warm-up, and the measured ones. The backlog's slot goes at the end, so that the log may.
func (b *relayBench) drains(ctx context.Context) error {
	log, err := b.world.writeBacklog(ctx, "bench_backlog", "a backlog of %s one-row transactions", fillOneByOne, b.cfg.Rows)
	if err != nil {
		return err
	}
	for round := range b.cfg.Repeats + 1 {
		for _, c := range rotated(b.drainers(), round) {
			if sitsOut(c.Name, round) {
				continue
			}
			if err := b.drain(ctx, c, log, round); err != nil {
				return err
			}
		}
	}
	return b.world.dropSlot(ctx, log.slot)
}

// drainers are the contestants' names and how each drains.
func (b *relayBench) drainers() []drainer {
	var list []drainer
	for _, c := range b.list {
		list = append(list, drainer{c.about(), func(ctx context.Context, log backlog, name string) (Drain, error) {
			return b.world.drain(ctx, c, log, name)
		}})
	}
	for _, r := range b.readers {
		list = append(list, drainer{r.Contestant, func(ctx context.Context, log backlog, name string) (Drain, error) {
			return b.world.drainTo(ctx, r, log, name)
		}})
	}
	return list
}

type drainer struct {
	Contestant
	drain func(ctx context.Context, log backlog, name string) (Drain, error)
}

func (b *relayBench) drain(ctx context.Context, c drainer, log backlog, round int) error {
	d, err := c.drain(ctx, log, b.lane())
	if err == nil {
		err = d.Count.fault()
	}
	if err != nil {
		return fmt.Errorf("drain, round %d, %s: %w", round, c.Label, err)
	}
	d.Round = round
	b.say("drain %s  %-26s %9s events/s, %d doubled", roundOf(round, b.cfg.Repeats), c.Label, count(int(d.Rate)), d.Count.Doubled)
	if round > 0 {
		b.results.Drains = append(b.results.Drains, d)
	}
	return nil
}

func (b *relayBench) latencies(ctx context.Context) error {
	if len(b.cfg.Rates) == 0 && b.cfg.Alone == 0 {
		return nil
	}
	for round := range b.cfg.Repeats + 1 { // drains do not warm up what many small transactions take of Java
		for _, c := range rotated(b.list, round) {
			if sitsOut(c.about().Name, round) {
				continue
			}
			got, err := b.world.latencies(ctx, c, pace{b.cfg.Alone, b.cfg.Rates, b.cfg.Duration}, b.lane(), b.lanes)
			if err == nil {
				err = got.count.fault()
			}
			if err != nil {
				return fmt.Errorf("latency, round %d, %s: %w", round, c.about().Label, err)
			}
			b.tell(c, got, round)
			if round > 0 {
				b.keep(got, round)
			}
		}
	}
	return nil
}

func (b *relayBench) tell(c contestant, got held, round int) {
	say := func(what string, curve Curve) {
		b.say("latency %s  %-26s %11s  p50 %s, p99 %s", roundOf(round, b.cfg.Repeats), c.about().Label, what, ms(curve.At(50)), ms(curve.At(99)))
	}
	if got.alone.Events > 0 {
		say("alone", got.alone.Curve)
	}
	for _, l := range got.latencies {
		say("at "+count(l.Rate)+"/s", l.Curve)
	}
}

func (b *relayBench) keep(got held, round int) {
	if got.alone.Events > 0 {
		got.alone.Round = round
		b.results.Alone = append(b.results.Alone, got.alone)
	}
	for _, l := range got.latencies {
		l.Round = round
		b.results.Latencies = append(b.results.Latencies, l)
	}
}

// sitsOut says that a contestant leaves a round out. Two of the Debeziums do so with every other one: all rounds of all would take half an hour, and what
// is held against goals is the tuned one.
func sitsOut(name string, round int) bool {
	return round > 0 && round%2 == 0 && (name == Debezium || name == DebeziumApplied)
}

// roundsOf is in how many rounds a contestant is measured.
func roundsOf(name string, repeats int) int {
	n := 0
	for round := 1; round <= repeats; round++ {
		if !sitsOut(name, round) {
			n++
		}
	}
	return n
}

// lane is the name of the next one.
func (b *relayBench) lane() string {
	b.lanes++
	return "bench" + strconv.Itoa(b.lanes)
}

// say tells a person what has been done, and when.
func (b *relayBench) say(format string, args ...any) {
	b.world.say("[%6s] %s", time.Since(b.began).Round(time.Second), fmt.Sprintf(format, args...))
}

func roundOf(round, rounds int) string {
	if round == 0 {
		return "warm-up"
	}
	return fmt.Sprintf("%d of %d ", round, rounds)
}

// slotName is the lane's slot.
func slotName(lane string) string { return strings.ReplaceAll(lane, "-", "_") }
