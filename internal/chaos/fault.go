package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults.
const (
	RelayKill     Kind = "relay-kill"     // SIGKILL; another one is started
	RelayZombie   Kind = "relay-zombie"   // SIGSTOP, and SIGCONT when its successor is at work
	RelayHandover Kind = "relay-handover" // another one is started, then the older one ends
	ServerKill    Kind = "server-kill"    // SIGKILL of PostgreSQL, which then recovers: the slot goes back
	BrokerKill    Kind = "broker-kill"    // SIGKILL of Kafka, which is started again on its data
	CutPostgres   Kind = "cut-postgres"   // of the connections between relays and PostgreSQL
	CutKafka      Kind = "cut-kafka"      // of the connections between relays and Kafka
	Walsender     Kind = "walsender"      // pg_terminate_backend of the process that sends the log to the relay
	TopicLimit    Kind = "topic-limit"    // topics take only small batches for a while, for which a relay may halt
)

// Ways of faults that have several.
const (
	newest = "newest" // of the relays
	oldest = "oldest"
	every  = "every"

	killed  = "killed"  // by SIGKILL
	stopped = "stopped" // by SIGTERM
	left    = "left"    // running

	reset = "reset" // all connections at once
	some  = "some"  // half of them
	deaf  = "deaf"  // answers are lost for a while, then reset
	mute  = "mute"  // requests are lost for a while, then reset
	stall = "stall" // nothing passes for a while, and then it does

	plain = ""
)

// kind is a line of the table of kinds.
type kind struct {
	name        Kind
	share       int           // of the faults of a long run, in twentieths
	least, most time.Duration // how long it lasts
	ways        []string
}

// kinds is the one table of faults.
func kinds() []kind {
	cuts := []string{reset, reset, some, deaf, deaf, mute, stall}
	return []kind{
		{RelayKill, 3, 0, time.Second, []string{newest, newest, oldest, every}},
		{RelayZombie, 3, 300 * time.Millisecond, 2800 * time.Millisecond, []string{killed, left}},
		{RelayHandover, 2, 200 * time.Millisecond, 1700 * time.Millisecond, []string{killed, killed, stopped, left}},
		{ServerKill, 3, 0, 500 * time.Millisecond, []string{plain}},
		{BrokerKill, 2, 0, 500 * time.Millisecond, []string{deaf, stall}},
		{CutPostgres, 2, 50 * time.Millisecond, 1500 * time.Millisecond, cuts},
		{CutKafka, 3, 50 * time.Millisecond, 1500 * time.Millisecond, cuts},
		{Walsender, 1, 0, 0, []string{plain}},
		{TopicLimit, 1, 500 * time.Millisecond, 1500 * time.Millisecond, []string{plain}},
	}
}

// Kinds are the names of all kinds of faults.
func Kinds() []Kind {
	var names []Kind
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// ParseKinds takes names for kinds of faults.
func ParseKinds(names []string) ([]Kind, error) {
	var list []Kind
	for _, name := range names {
		if !slices.Contains(Kinds(), Kind(name)) {
			var all []string
			for _, k := range Kinds() {
				all = append(all, string(k))
			}
			return nil, fmt.Errorf("fault %q: want one of %s", name, strings.Join(all, ", "))
		}
		list = append(list, Kind(name))
	}
	return list, nil
}

// Fault is one fault of a run.
type Fault struct {
	Kind  Kind          `json:"kind"`
	Way   string        `json:"way,omitempty"`
	Pause time.Duration `json:"pause"`          // before it
	Rush  bool          `json:"rush,omitempty"` // it does not wait until events have got through since the fault before
	Lasts time.Duration `json:"lasts"`
	Draw  uint64        `json:"-"` // for what else is left to chance
}

// schedule is an endless row of faults. The same seed and the same kinds give the same row; how much of it a run carries out depends on the machine.
type schedule struct {
	random *rand.Rand
	kinds  []kind
	deck   []kind
}

func newSchedule(seed uint64, of []Kind) *schedule {
	s := &schedule{random: rand.New(rand.NewPCG(seed, 0x6661756c74))}
	for _, k := range kinds() {
		if slices.Contains(of, k.name) {
			s.kinds = append(s.kinds, k)
		}
	}
	return s
}

// next deals the kinds from a shuffled deck, in which each has its share, so that even a short run gets some of everything.
func (s *schedule) next() Fault {
	if len(s.deck) == 0 {
		for _, k := range s.kinds {
			for range k.share {
				s.deck = append(s.deck, k)
			}
		}
		s.random.Shuffle(len(s.deck), func(i, j int) { s.deck[i], s.deck[j] = s.deck[j], s.deck[i] })
	}
	k := s.deck[0]
	s.deck = s.deck[1:]
	return Fault{
		Kind: k.name, Way: k.ways[s.random.IntN(len(k.ways))], Pause: s.between(50*time.Millisecond, 500*time.Millisecond),
		Rush: s.random.IntN(4) == 0, Lasts: s.between(k.least, k.most), Draw: s.random.Uint64(),
	}
}

func (s *schedule) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.random.Int64N(int64(most-least)+1))
}
