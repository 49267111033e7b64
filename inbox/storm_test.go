package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/inbox"
)

// O1, O3, O4, R6 together: members come and go while messages fail, and each effect is applied once, in the order of its key, while no
// committed offset ever goes back.
func TestARebalanceStormAppliesEachEffectOnceAndInOrder(t *testing.T) {
	t.Parallel()
	const partitions, keys, messages, rounds = 4, 40, 1200, 8
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex // protects moods
	moods := rand.New(rand.NewPCG(seed, 1))
	mood := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return moods.IntN(n)
	}
	w := newWorld(t)
	w.kafka.CreateTopic(t, "storm", partitions)
	sequence := make(map[string]int)
	publish := func(n int) {
		for range n {
			k := rnd.IntN(keys)
			key := fmt.Sprint("k", k)
			w.publish(event{topic: "storm", partition: int32(k % partitions), key: key, value: fmt.Sprintf("%06d", sequence[key])})
			sequence[key]++
		}
	}
	edit := func(c *inbox.Config) {
		c.Topics = []string{"storm"}
		c.Drain = 50 * time.Millisecond
		c.Window.Records = 50
		c.Retry.Attempts = 1000
		c.Concurrency = 4
		c.Handlers[topic] = func(ctx context.Context, tx pgx.Tx, m *inbox.Message) error {
			if err := effect(ctx, tx, m); err != nil {
				return err
			}
			switch n := mood(100); {
			case n < 5:
				return errors.New("now and then")
			case n < 15: // across the drain
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(mood(100)) * time.Millisecond):
				}
			}
			return nil
		}
	}
	stopWatching := w.watchOffsets("storm", partitions)
	members := []*member{w.start(edit)}
	for range rounds {
		publish(messages / rounds)
		if len(members) > 1 && rnd.IntN(2) == 0 {
			i := rnd.IntN(len(members))
			_ = members[i].stop() // a handler may have been cut off
			members = slices.Delete(members, i, i+1)
		} else if len(members) < 3 {
			members = append(members, w.start(edit))
		}
		members[len(members)-1].awaitReady()
	}
	await(t, "all offsets committed", func() bool {
		for p, end := range w.kafka.EndOffsets(t, "storm") {
			if end > 0 && w.committed("storm", p) != end {
				return false
			}
		}
		return true
	})
	for _, m := range members {
		m.mustStop()
	}
	stopWatching()
	w.mustHaveEach(messages)
	last := make(map[string]string)
	for _, e := range w.effects() {
		key, value, _ := strings.Cut(e, "=")
		if value <= last[key] && last[key] != "" {
			t.Errorf("key %s: %s came after %s", key, value, last[key])
		}
		last[key] = value
	}
	if n := w.kafka.EndOffsets(t, deadLetters); n[0]+n[1]+n[2] != 0 {
		t.Errorf("dead letters = %v, want none", n)
	}
}

// watchOffsets fails the test when a committed offset goes back.
func (w *world) watchOffsets(topic string, partitions int32) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		highest := make(map[int32]int64)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			offsets, err := w.admin.FetchOffsets(context.Background(), group)
			if err != nil {
				continue
			}
			for p := range partitions {
				if o, ok := offsets.Lookup(topic, p); ok {
					if o.At < highest[p] {
						w.t.Errorf("committed offset of partition %d went back from %d to %d", p, highest[p], o.At)
					}
					highest[p] = o.At
				}
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
