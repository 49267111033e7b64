package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

const (
	// progress is how many records have to get through between two faults of which the second does not rush, and progressLimit how long that is waited for.
	progress      = 20
	progressLimit = 8 * time.Second

	smallBatch = 12_000 // bytes, of a TopicLimit: a tenth of the transactions have an event that is larger
)

// nemesis carries faults out, one after the other. Only a broker that was killed comes back while others go on, since that takes seconds.
type nemesis struct {
	*run
	did     []happened
	seen    int        // records that the consumer had been given after the latest fault
	revived chan error // of the broker that is coming back; nil: none is

	limits []span // in which topics took only small batches
}

// span is a stretch of time; a zero end is none yet.
type span struct{ from, to time.Time }

// rage carries out faults for as long as the run lasts, or until something is found. The time for which a fault waits until the broker is back is added to
// the run, up to half as much again.
func (n *nemesis) rage(ctx context.Context) error {
	row := newSchedule(n.cfg.Seed, n.cfg.Faults)
	until := time.Now().Add(n.cfg.Duration)
	latest := until.Add(n.cfg.Duration / 2)
	for time.Now().Before(until) && ctx.Err() == nil && !n.doubtful() {
		f := row.next()
		if err := pause(ctx, f.Pause); err != nil {
			return err
		}
		waited := time.Now()
		if err := n.welcome(ctx, n.needsBroker(f.Kind)); err != nil {
			return err
		}
		until = minTime(until.Add(time.Since(waited)), latest)
		if err := n.progress(ctx, f, until); err != nil {
			return err
		}
		if !time.Now().Before(until) || n.doubtful() {
			break
		}
		if err := n.carryOut(ctx, f); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (n *nemesis) carryOut(ctx context.Context, f Fault) error {
	begin := time.Now()
	if err := n.do(ctx, f); err != nil {
		return fmt.Errorf("fault %s %s: %w", f.Kind, f.Way, err)
	}
	n.seen, _, _ = n.consumer.state()
	n.did = append(n.did, happened{f, begin.Sub(n.began), time.Since(begin), n.seen})
	return n.replace(ctx)
}

// doubtful says that a flaw shows already.
func (n *nemesis) doubtful() bool {
	_, doubt, _ := n.consumer.state()
	return doubt || n.relays.flawed()
}

// progress waits until some records got through since the fault before, however slow the machine is. A fault that rushes does not wait, nor does any
// while the broker is away.
func (n *nemesis) progress(ctx context.Context, f Fault, until time.Time) error {
	if f.Rush || n.revived != nil {
		return nil
	}
	waiting, cancel := context.WithDeadline(ctx, minTime(until, time.Now().Add(progressLimit)))
	defer cancel()
	n.consumer.await(waiting, n.seen+progress)
	return ctx.Err()
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func (n *nemesis) needsBroker(k Kind) bool {
	return k == BrokerKill || k == CutKafka || k == TopicLimit
}

// welcome takes note of a broker that has come back, and waits for it if told to. The relays that have been looking for it may rest for half a minute
// between two looks, so a fresh one is started.
func (n *nemesis) welcome(ctx context.Context, wait bool) error {
	if n.revived == nil {
		return nil
	}
	var err error
	if wait {
		err = <-n.revived // which ends with ctx
	} else {
		select {
		case err = <-n.revived:
		default:
			return nil
		}
	}
	n.revived = nil
	if err != nil {
		return fmt.Errorf("start Kafka again: %w", err)
	}
	n.room()
	return n.relays.start(ctx)
}

// replace starts a relay when none is left, as after a halt that was justified.
func (n *nemesis) replace(ctx context.Context) error {
	if len(n.relays.alive()) > 0 {
		return nil
	}
	return n.relays.start(ctx)
}

func (n *nemesis) do(ctx context.Context, f Fault) error {
	switch f.Kind {
	case RelayKill:
		return n.killRelay(ctx, f)
	case RelayZombie:
		return n.zombie(ctx, f)
	case RelayHandover:
		return n.handover(ctx, f)
	case ServerKill:
		return n.killServer(ctx, f)
	case BrokerKill:
		return n.killBroker(ctx, f)
	case CutPostgres:
		return n.cut(ctx, n.world.toServer, f)
	case CutKafka:
		return n.cut(ctx, n.world.toBroker, f)
	case Walsender:
		return n.terminateWalsender(ctx)
	case TopicLimit:
		return n.limit(ctx, f)
	}
	return errors.New("nobody knows how to do it")
}

func (n *nemesis) killRelay(ctx context.Context, f Fault) error {
	list := slices.Clone(n.relays.alive())
	switch {
	case f.Way == newest && len(list) > 0:
		list = list[len(list)-1:]
	case f.Way == oldest && len(list) > 0:
		list = list[:1]
	}
	n.relays.kill(list...)
	if err := pause(ctx, f.Lasts); err != nil {
		return err
	}
	return n.replace(ctx)
}

// crowd is how many relays there are at most.
const crowd = 3

// room makes room for another relay.
func (n *nemesis) room() {
	if list := n.relays.alive(); len(list) >= crowd {
		n.relays.kill(slices.Clone(list[:len(list)-crowd+1])...)
	}
}

// zombie stops the relays where they are, gives their place to another one, and lets them go on as if nothing had been.
func (n *nemesis) zombie(ctx context.Context, f Fault) error {
	n.room()
	older := slices.Clone(n.relays.alive())
	for _, p := range older {
		p.Signal(syscall.SIGSTOP)
	}
	defer func() {
		for _, p := range older {
			p.Signal(syscall.SIGCONT)
		}
	}()
	if err := n.terminateWalsender(ctx); err != nil { // else the server waits for the stopped one for wal_sender_timeout
		return err
	}
	if err := n.relays.start(ctx); err != nil {
		return err
	}
	if err := pause(ctx, f.Lasts); err != nil {
		return err
	}
	for _, p := range older {
		p.Signal(syscall.SIGCONT)
	}
	if f.Way == killed {
		if err := pause(ctx, n.share(f, f.Lasts)); err != nil {
			return err
		}
		n.relays.kill(older...)
	}
	return nil
}

// share is a random part of d.
func (n *nemesis) share(f Fault, d time.Duration) time.Duration {
	return time.Duration(rand.New(rand.NewPCG(f.Draw, 0)).Int64N(int64(d) + 1))
}

// handover starts another relay, which stands by, and ends the older ones.
func (n *nemesis) handover(ctx context.Context, f Fault) error {
	n.room()
	older := slices.Clone(n.relays.alive())
	if err := n.relays.start(ctx); err != nil {
		return err
	}
	if err := pause(ctx, f.Lasts); err != nil {
		return err
	}
	switch f.Way {
	case killed:
		n.relays.kill(older...)
	case stopped:
		return n.relays.stop(ctx, older...)
	}
	return nil
}

// killServer notes whether the slot went back, which is what makes the server send again.
func (n *nemesis) killServer(ctx context.Context, f Fault) error {
	before, beforeErr := n.confirmed(ctx)
	if err := n.world.restartServer(ctx, f.Lasts); err != nil {
		return err
	}
	n.pool.Reset() // its connections are gone
	after, err := n.confirmed(ctx)
	if err != nil {
		return err
	}
	if beforeErr == nil && after < before {
		n.result.Rewinds++
	}
	return nil
}

func (n *nemesis) killBroker(ctx context.Context, f Fault) error {
	if err := n.world.killBroker(ctx, f.Way); err != nil {
		return err
	}
	n.revived = make(chan error, 1)
	go func(revived chan<- error) { revived <- n.world.reviveBroker(ctx, f.Lasts, n.topics) }(n.revived)
	return nil
}

func (n *nemesis) cut(ctx context.Context, p *proxy, f Fault) error {
	random := rand.New(rand.NewPCG(f.Draw, 0))
	switch f.Way {
	case reset:
		p.cut(nil)
		return nil
	case some:
		p.cut(func() bool { return random.IntN(2) == 0 })
		return nil
	case deaf:
		p.down.set(lose)
	case mute:
		p.up.set(lose)
	case stall:
		p.up.set(hold)
		p.down.set(hold)
	}
	err := pause(ctx, f.Lasts)
	if f.Way != stall {
		p.cut(nil)
	}
	p.up.set(open)
	p.down.set(open)
	return err
}

func (n *nemesis) terminateWalsender(ctx context.Context) error {
	return await(ctx, serveLimit, "the walsender is told to end", func(ctx context.Context) error {
		_, err := n.pool.Exec(ctx, `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active`, n.slot)
		return err
	})
}

// limit has the topics refuse what relays have learnt that they take. A relay that meets that must halt and publish nothing of the transaction.
func (n *nemesis) limit(ctx context.Context, f Fault) error {
	n.mu.Lock()
	n.limits = append(n.limits, span{from: time.Now()})
	n.mu.Unlock()
	err := n.world.limitTopics(ctx, smallBatch, n.topics)
	if err == nil {
		err = pause(ctx, f.Lasts)
	}
	err = errors.Join(err, n.world.limitTopics(context.WithoutCancel(ctx), 0, n.topics))
	n.mu.Lock()
	n.limits[len(n.limits)-1].to = time.Now()
	n.mu.Unlock()
	return err
}

// excuse is the fault that justifies that a relay has halted. It may have learnt the limit of a topic while that was low, and halt later.
func (n *nemesis) excuse(begun, ended time.Time, cause string) string {
	if cause != "event_too_large" {
		return ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.limits {
		if l.from.Before(ended) && (l.to.IsZero() || l.to.After(begun)) {
			return string(TopicLimit)
		}
	}
	return ""
}

// heal undoes what faults have left behind, and leaves the newest relay, which takes over.
func (n *nemesis) heal(ctx context.Context) error {
	if err := n.welcome(ctx, true); err != nil {
		return err
	}
	if err := n.replace(ctx); err != nil {
		return err
	}
	list := n.relays.alive()
	n.relays.kill(slices.Clone(list[:max(len(list)-1, 0)])...)
	return nil
}
