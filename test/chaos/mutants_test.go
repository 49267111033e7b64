package chaos_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/internal/chaos"
)

// edit replaces a piece of a source file, which must be there exactly once.
type edit struct{ file, old, by string }

// mutant is a relay that is broken on purpose: the program is built with the edits laid over its source. When a piece is not found any more, the source has
// changed: find the new place of the rule that the mutant breaks.
type mutant struct {
	name   string
	edits  []edit
	faults []chaos.Kind // that find it; which is what it takes, the others would only take time
	want   []chaos.Flaw // one of which must be found
	long   bool         // only with -every
}

// Pauses in which random faults meet what they would else miss for minutes. The second is longer than a fault waits for progress, which there is none in it.
var (
	beforeATransaction = edit{
		"relay/kafkasink/transaction.go", "	if err := client.BeginTransaction(); err != nil {",
		"	if time.Now().UnixNano()%3 == 0 {\n		time.Sleep(900 * time.Millisecond)\n	}\n	if err := client.BeginTransaction(); err != nil {",
	}
	insideATransaction = edit{
		"relay/kafkasink/transaction.go", "	if err := client.BeginTransaction(); err != nil {",
		"	if len(events) == 1000 {\n		time.Sleep(9 * time.Second)\n	}\n	if err := client.BeginTransaction(); err != nil {",
	}
)

func mutants() []mutant {
	rewinding := []chaos.Kind{chaos.ServerKill, chaos.RelayKill}
	return []mutant{
		{
			name: "the watermark is ignored",
			edits: []edit{
				{"relay/floor.go", "return floor{origin: o, mark: w, pending: w.Position != (Position{}) && o.Confirmed <= w.Position.Commit}", "return floor{origin: o}"},
			},
			faults: rewinding, want: []chaos.Flaw{chaos.Duplicated},
		},
		{
			name: "a position is confirmed before the commit",
			edits: []edit{
				{
					"relay/session.go", "		if err := r.publish(publishing, publisher, events, mark); err != nil {",
					"		if batch.End != 0 {\n			source.stream.Confirm(batch.End)\n		}\n		if err := r.publish(publishing, publisher, events, mark); err != nil {",
				},
				{"relay/session.go", "o.Confirmed > now.End {", "false && o.Confirmed > now.End {"},
			},
			faults: []chaos.Kind{chaos.RelayKill, chaos.CutKafka}, want: []chaos.Flaw{chaos.Lost},
		},
		{
			name: "a position is confirmed before the commit, where a check is in the way",
			edits: []edit{{
				"relay/session.go", "		if err := r.publish(publishing, publisher, events, mark); err != nil {",
				"		if batch.End != 0 {\n			source.stream.Confirm(batch.End)\n		}\n		if err := r.publish(publishing, publisher, events, mark); err != nil {",
			}},
			faults: []chaos.Kind{chaos.RelayKill, chaos.CutKafka}, want: []chaos.Flaw{chaos.Halted}, long: true,
		},
		{
			name: "the event at the watermark is published again",
			edits: []edit{
				{"relay/floor.go", "Compare(at) <= 0", "Compare(at) < 0"},
				{"relay/floor.go", "if len(events) > 0 && f.pending {", "if false {"},
				{"relay/session.go", "p.Compare(last) <= 0", "p.Compare(last) < 0"},
			},
			faults: rewinding, want: []chaos.Flaw{chaos.Duplicated},
		},
		{
			name:  "the event at the watermark is published again, where two checks are in the way",
			edits: []edit{{"relay/floor.go", "Compare(at) <= 0", "Compare(at) < 0"}},
			// It is taken for another log.
			faults: rewinding, want: []chaos.Flaw{chaos.Halted}, long: true,
		},
		{
			name: "the watermark is read before the ring is taken over",
			edits: []edit{
				{
					"relay/kafkasink/kafkasink.go", "	if err := p.takeOver(ctx); err != nil {",
					"	early, _ := s.store(client, o).read(ctx)\n	time.Sleep(4 * time.Second)\n	if err := p.takeOver(ctx); err != nil {",
				},
				{"relay/kafkasink/kafkasink.go", "	w, err := p.recover(ctx)", "	if early.ok {\n		p.end = relay.LSN(early.End)\n		return p, early.watermark(), nil\n	}\n	w, err := p.recover(ctx)"},
				beforeATransaction,
			},
			faults: []chaos.Kind{chaos.RelayZombie}, want: []chaos.Flaw{chaos.Duplicated},
		},
		{
			name:   "a transaction is committed in which a record has failed",
			edits:  []edit{{"relay/kafkasink/transaction.go", "err = p.explain(events, failed)", "_ = failed"}},
			faults: []chaos.Kind{chaos.TopicLimit}, want: []chaos.Flaw{chaos.Lost},
		},
		{
			name: "only the first member of the ring is taken over",
			edits: []edit{
				{"relay/kafkasink/ring.go", "		if _, _, err := client.ProducerID(ctx); err != nil {", "		if n > 0 {\n			continue\n		}\n		if _, _, err := client.ProducerID(ctx); err != nil {"},
				beforeATransaction,
			},
			faults: []chaos.Kind{chaos.RelayZombie}, want: []chaos.Flaw{chaos.Duplicated}, long: true,
		},
		{
			name: "the watermark is left out of some transactions",
			edits: []edit{{
				"relay/kafkasink/transaction.go", "	failed, err := p.records.send(ctx, client, mark)",
				"	extra := mark\n	if m.met[mark.Topic] && time.Now().UnixNano()%4 == 0 {\n		extra = nil\n	}\n	failed, err := p.records.send(ctx, client, extra)",
			}},
			faults: rewinding, want: []chaos.Flaw{chaos.Torn}, long: true,
		},
		{
			name: "what is left of a transaction that was split is skipped",
			edits: []edit{
				{"relay/floor.go", "events[0].Position.Compare(at) <= 0", "events[0].Position.Commit <= at.Commit"},
				insideATransaction,
			},
			faults: []chaos.Kind{chaos.RelayKill, chaos.Walsender}, want: []chaos.Flaw{chaos.Lost}, long: true,
		},
	}
}

const (
	mutantRuns     = 3 // until the mutant is found
	mutantDuration = 20 * time.Second
)

// TestEveryMutantIsFound breaks the relay in one rule after the other, and wants the campaign to find that out. A campaign that finds nothing proves
// nothing.
func TestEveryMutantIsFound(t *testing.T) {
	w := world(t)
	for i, m := range mutants() {
		if m.long && !*every {
			continue // not skipped: make test leaves it to make chaos, and CI takes a skip for a failure
		}
		t.Run(m.name, func(t *testing.T) {
			program := m.build(t, fmt.Sprint(i))
			found := chaos.Verdict{}
			begin := time.Now()
			for n := range mutantRuns {
				result := m.run(t, w, program, *seed+uint64(n))
				found = result.Verdict
				if slices.ContainsFunc(m.want, func(f chaos.Flaw) bool { return found.Counts[f] > 0 }) {
					fmt.Printf("counts: chaos: mutant %q found by run %d, after %.0f s of faults (%.0f s in all): %s\n", m.name, n+1, result.Seconds, time.Since(begin).Seconds(), found)
					return
				}
			}
			t.Errorf("in %d runs from seed %d this was found: %s, want one of %v", mutantRuns, *seed, found, m.want)
		})
	}
}

func (m mutant) run(t *testing.T, w *chaos.World, program string, seed uint64) chaos.Result {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("run was not done within %v", limit))
	defer cancel()
	result, err := w.Run(ctx, chaos.RunConfig{Seed: seed, Duration: mutantDuration, Faults: m.faults, Program: program, Drain: 40 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// build builds the mutant's program.
func (m mutant) build(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	texts := make(map[string]string)
	for _, e := range m.edits {
		text, ok := texts[e.file]
		if !ok {
			source, err := os.ReadFile(filepath.Join("..", "..", e.file))
			if err != nil {
				t.Fatal(err)
			}
			text = string(source)
		}
		if n := strings.Count(text, e.old); n != 1 {
			t.Fatalf("%s has %d times what the mutant replaces, want once: %q", e.file, n, e.old)
		}
		texts[e.file] = strings.Replace(text, e.old, e.by, 1)
	}
	replaced := make(map[string]string)
	for file, text := range texts {
		replaced[file] = filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(replaced[file], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(dir, "walpost-"+name)
	if err := build(program, replaced); err != nil {
		t.Fatal(err)
	}
	return program
}
