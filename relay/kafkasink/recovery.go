package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walpost/walpost/relay"
)

// takeOver takes over the ring. Whatever an earlier publisher was about to do is either done or impossible after it.
func (p *transactor) takeOver(ctx context.Context) (err error) {
	began := time.Now()
	if p.version, err = transactionVersion(ctx, p.admin); err != nil {
		return err
	}
	if p.ring, err = p.sink.fence(ctx, p.origin, p.records.limits); err != nil {
		return err
	}
	log := p.sink.cfg.Logger.With("slot", p.origin.Slot, "delivery", p.Delivery().String(), "transaction_version", p.version)
	log.Info("kafka sink has taken over its transactional ids", "ids", len(p.ring), "seconds", time.Since(began).Seconds())
	if p.Delivery() != relay.ExactlyOnce {
		log.Warn("the brokers' transactions are of an old version, which can tear one when a message of it is late: exactly once is not promised; upgrade the feature transaction.version to 2")
	}
	return nil
}

// recover finds the watermark, or begins one for a slot that is new.
func (p *transactor) recover(ctx context.Context) (relay.Watermark, error) {
	store := p.sink.store(p.admin, p.origin)
	found, err := store.read(ctx)
	if err != nil {
		return relay.Watermark{}, err
	}
	if !found.ok {
		return p.begin(ctx, found.elsewhere)
	}
	if p.written, err = store.checkEnds(ctx, found.kept); err != nil {
		return relay.Watermark{}, err
	}
	p.end = relay.LSN(found.End)
	return found.watermark(), nil
}

// begin writes the first watermark of a new slot. An older slot must have one: without it, nothing tells what of the log was published already.
// elsewhere are the systems that have a watermark for a slot of this name.
func (p *transactor) begin(ctx context.Context, elsewhere []string) (relay.Watermark, error) {
	o := p.origin
	if !o.Fresh {
		halt := &relay.HaltError{
			Cause: relay.WatermarkUnusable, From: o.Confirmed,
			Err: fmt.Errorf("topic %s has no watermark for slot %s of system %s, through which events were read before: it was deleted, or another relay or delivery was in use",
				p.sink.cfg.WatermarkTopic, o.Slot, o.SystemID),
			Hint: o.SlotCommand("status") + "; " + o.SlotCommand("adopt") + " begins one where the slot stands, and events that were published and not confirmed come again",
		}
		if len(elsewhere) > 0 {
			halt.Cause = relay.IdentityChanged
			halt.Err = fmt.Errorf("topic %s has no watermark for slot %s of system %s, but one for a slot of that name of system %s: the database was upgraded or restored",
				p.sink.cfg.WatermarkTopic, o.Slot, o.SystemID, strings.Join(elsewhere, " and "))
		}
		return relay.Watermark{}, halt
	}
	w := relay.Watermark{Timeline: o.Timeline, End: o.Confirmed}
	return w, p.Publish(ctx, nil, w)
}

// Watermark is the watermark of the origin as it is, and whether there is one. A relay that runs may move it at any time. The error matches
// ErrGarbled when what is there can only be replaced.
func (s *Sink) Watermark(ctx context.Context, o relay.Origin) (relay.Watermark, bool, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return relay.Watermark{}, false, err
	}
	defer client.Close()
	store := s.store(client, o)
	if err := store.look(ctx); errors.Is(err, kerr.UnknownTopicOrPartition) {
		return relay.Watermark{}, false, nil
	}
	found, err := store.read(ctx)
	if err != nil || !found.ok {
		return relay.Watermark{}, false, err
	}
	return found.watermark(), true, nil
}

// Adopt makes w the watermark of the origin, whatever it was before, and forgets what was written to the topics. It is the way on after a halt that
// was looked into. It shuts out a publisher of the origin that is open.
//
// With the zero Position, everything that the slot holds is published; End should be where the slot stands.
func (s *Sink) Adopt(ctx context.Context, o relay.Origin, w relay.Watermark) (err error) {
	client, err := s.connect(ctx)
	if err != nil {
		return err
	}
	p := &transactor{sink: s, origin: o, admin: client, records: s.newRecords(s.newLimits()), written: offsets{}}
	defer func() { _ = p.Close() }() // never fails
	if err := s.store(client, o).ensure(ctx); err != nil {
		return err
	}
	if err := p.takeOver(ctx); err != nil {
		return err
	}
	return p.Publish(ctx, nil, w)
}

// transactionVersion is the version of the protocol of transactions that the cluster has settled on; see KIP-890.
func transactionVersion(ctx context.Context, client *kgo.Client) (int16, error) {
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "walpost-relay", "unknown"
	versions, err := request.RequestWith(ctx, client)
	if err != nil {
		return 0, fmt.Errorf("ask for transaction.version: %w", err)
	}
	i := slices.IndexFunc(versions.FinalizedFeatures, func(f kmsg.ApiVersionsResponseFinalizedFeature) bool { return f.Name == "transaction.version" })
	if i < 0 {
		return 0, nil // as brokers before 4.0 do
	}
	return versions.FinalizedFeatures[i].MaxVersionLevel, nil
}
