package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config says what a campaign does. All of it is required.
type Config struct {
	Stack    Stack
	Seed     uint64        // of the first run; each further one has the next. Run n alone is a campaign of one run with seed + n - 1
	Runs     int           // at least 1
	Duration time.Duration // of the faults of a run, at least 1 s
	Faults   []Kind
}

// Validate says everything that is wrong with the configuration, apart from the stack.
func (c Config) Validate() error {
	var errs []error
	if len(c.Faults) == 0 {
		errs = append(errs, errors.New("no faults: there is nothing to hold anything against"))
	}
	if c.Runs < 1 {
		errs = append(errs, fmt.Errorf("%d runs: want at least 1", c.Runs))
	}
	if c.Duration < time.Second {
		errs = append(errs, fmt.Errorf("duration %v: want at least 1s", c.Duration))
	}
	return errors.Join(errs...)
}

// Estimate is about how long the campaign takes on two cores.
func (c Config) Estimate() time.Duration {
	return 20*time.Second + time.Duration(c.Runs)*(c.Duration+12*time.Second)
}

// Report is what a campaign found.
type Report struct {
	Runs []Result `json:"runs"`
	Sum  Result   `json:"sum"` // of all runs, with the seed of the first
	Kept string   `json:"kept,omitempty"`
}

// Good says that no run found a flaw.
func (r Report) Good() bool { return r.Sum.Verdict.Good() }

// Campaign does the runs one after the other, all of them even when one finds a flaw. When ctx ends, everything that was started has ended when it
// returns. The report holds the runs that were done, also with an error.
func Campaign(ctx context.Context, cfg Config) (report Report, err error) {
	if err := cfg.Validate(); err != nil {
		return report, err
	}
	world, err := Open(ctx, cfg.Stack)
	if err != nil {
		return report, err
	}
	defer func() {
		report.Kept = world.Kept()
		err = errors.Join(err, world.Close(ctx))
	}()
	for n := range cfg.Runs {
		result, err := world.Run(ctx, RunConfig{Seed: cfg.Seed + uint64(n), Duration: cfg.Duration, Faults: cfg.Faults})
		if err != nil {
			if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return report, fmt.Errorf("seed %d: %w", cfg.Seed+uint64(n), err)
		}
		report.Runs = append(report.Runs, result)
		report.Sum = total(report.Runs)
		world.say("run %d of %d  seed %d  %d events, %d faults: %s", n+1, cfg.Runs, result.Seed, result.Counts.Events, result.faults(), result.Verdict)
		for _, example := range result.Verdict.Examples {
			world.say("  %s", example)
		}
	}
	return report, nil
}

// total adds runs up.
func total(runs []Result) Result {
	sum := Result{Faults: make(map[Kind]int), Halts: make(map[string]int)}
	for i, r := range runs {
		if i == 0 {
			sum.Seed = r.Seed
		}
		sum.Seconds, sum.Drained = sum.Seconds+r.Seconds, sum.Drained+r.Drained
		sum.Rewinds, sum.Fenced, sum.Relays = sum.Rewinds+r.Rewinds, sum.Fenced+r.Fenced, sum.Relays+r.Relays
		sum.Counts.Events += r.Counts.Events
		sum.Counts.Records += r.Counts.Records
		sum.Counts.Aborted += r.Counts.Aborted
		sum.Counts.Transactions += r.Counts.Transactions
		for k, n := range r.Faults {
			sum.Faults[k] += n
		}
		for cause, n := range r.Halts {
			sum.Halts[cause] += n
		}
		for flaw, n := range r.Verdict.Counts {
			if sum.Verdict.Counts == nil {
				sum.Verdict.Counts = make(map[Flaw]int)
			}
			sum.Verdict.Counts[flaw] += n
		}
	}
	return sum
}

// faults is how many there were.
func (r Result) faults() (n int) {
	for _, of := range r.Faults {
		n += of
	}
	return n
}

// RunTable has a line for each run and one for all of them.
func RunTable(r Report) [][]string {
	rows := [][]string{{
		"run", "seed", "events", "records", "transactions", "taken back", "faults", "slot rewinds", "shut out", string(Lost), string(Duplicated), string(Phantom), string(Reordered), "other",
	}}
	for i, run := range r.Runs {
		rows = append(rows, run.row(strconv.Itoa(i+1), strconv.FormatUint(run.Seed, 10)))
	}
	if len(r.Runs) > 1 {
		rows = append(rows, r.Sum.row("all", ""))
	}
	return rows
}

func (r Result) row(run, seed string) []string {
	row := []string{run, seed}
	for _, n := range []int{r.Counts.Events, r.Counts.Records, r.Counts.Transactions, r.Counts.Aborted, r.faults(), r.Rewinds, r.Fenced} {
		row = append(row, strconv.Itoa(n))
	}
	other := 0
	counted := []Flaw{Lost, Duplicated, Phantom, Reordered}
	for flaw, n := range r.Verdict.Counts {
		if !slices.Contains(counted, flaw) {
			other += n
		}
	}
	for _, flaw := range counted {
		row = append(row, strconv.Itoa(r.Verdict.Counts[flaw]))
	}
	return append(row, strconv.Itoa(other))
}

// FaultTable has a line for each kind of fault.
func FaultTable(r Report) [][]string {
	rows := [][]string{{"fault", "times"}}
	for _, k := range Kinds() {
		if n := r.Sum.Faults[k]; n > 0 {
			rows = append(rows, []string{string(k), strconv.Itoa(n)})
		}
	}
	return rows
}

// Summary is the report in a sentence.
func (r Report) Summary() string {
	s := r.Sum
	var kinds []string
	for _, row := range FaultTable(r)[1:] {
		kinds = append(kinds, row[0]+" "+row[1])
	}
	halts := 0
	for _, n := range s.Halts {
		halts += n
	}
	return fmt.Sprintf("%d runs from seed %d, %.0f s of faults (%s): %d events in %d records of %d transactions, %d records taken back, %d slot rewinds, "+
		"%d relays, shut out %d times, halted %d times: %s",
		len(r.Runs), s.Seed, s.Seconds, strings.Join(kinds, ", "), s.Counts.Events, s.Counts.Records, s.Counts.Transactions, s.Counts.Aborted, s.Rewinds,
		s.Relays, s.Fenced, halts, s.Verdict)
}
