package kafkasink

import (
	"time"

	"github.com/walpost/walpost/relay"
)

// SetRing changes what is part of the protocol: the number of transactional ids, and how long a foreign transaction may hide the watermark.
func (s *Sink) SetRing(size int, settle time.Duration) {
	s.ring.size, s.ring.settle = size, settle
}

// SetRest changes how long a transactional id rests after a transaction.
func (s *Sink) SetRest(rest time.Duration) { s.ring.rest = rest }

// SetKeep changes how long a transactional id may go unused.
func (s *Sink) SetKeep(keep time.Duration) { s.ring.keep = keep }

// Recode decodes a watermark and encodes it again.
func Recode(value []byte) ([]byte, error) {
	k, err := decodeWatermark(value)
	if err != nil {
		return nil, err
	}
	o := relay.Origin{Timeline: k.Timeline}
	rec, err := watermarkRecord("", o, k.Ring, k.watermark(), k.Offsets)
	if err != nil {
		return nil, err
	}
	return rec.Value, nil
}
