package relay_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/walpost/walpost/relay"
)

// gathering is a script whose stream can gather; its publisher wants a gap.
type gathering struct {
	*script
	gap      time.Duration
	gathered []time.Duration // how long, one a call
}

func (g *gathering) Open(ctx context.Context) (relay.Stream, error) {
	stream, err := g.script.Open(ctx)
	return gatheringStream{stream, g}, err
}

type gatheringStream struct {
	relay.Stream
	*gathering
}

func (g gatheringStream) Gather(ctx context.Context, until time.Time) {
	g.gathered = append(g.gathered, time.Until(until))
	select {
	case <-time.After(time.Until(until)):
	case <-ctx.Done():
	}
}

type spacingSink struct{ *gathering }

func (s spacingSink) Open(ctx context.Context, o relay.Origin) (relay.Publisher, relay.Watermark, error) {
	p, w, err := scriptSink{s.script}.Open(ctx, o)
	return spacer{p, s.gap}, w, err
}

type spacer struct {
	relay.Publisher
	gap time.Duration
}

func (s spacer) Gap() time.Duration { return s.gap }

// gather runs a relay over two batches, the first of which has waited and takes its time to be published, and says how long the events of the second
// were given.
func gather(t *testing.T, least, waited, took time.Duration) (gathered []time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		g := &gathering{gap: least, script: &script{
			next: func(call int) (relay.Batch, error) {
				if call > 2 {
					return relay.Batch{}, nil
				}
				return relay.Batch{Events: []relay.Event{event(relay.LSN(10*call), 0)}, End: relay.LSN(10*call + 1), Since: time.Now().Add(-waited)}, nil
			},
			publish: func(context.Context, []relay.Event) error { <-time.After(took); return nil },
		}}
		r, err := relay.New(g, spacingSink{g}, relay.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Run(ctx); err != nil || len(g.published) != 2 {
			t.Errorf("Run = %v with %d events published, want no error and 2", err, len(g.published))
		}
		gathered = g.gathered[:min(1, len(g.gathered))] // the second batch's
	})
	return gathered
}

func TestTheGapGrowsWithTheTimeThatEventsHaveWaited(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, tc := range map[string]struct {
		least, waited, took time.Duration
		want                []time.Duration
	}{
		"none for an event that came at once":         {0, 0, 0, nil},
		"none for one that waited for a batch or two": {0, 20 * ms, 10 * ms, nil},
		"the publisher's, if it wants one":            {2 * ms, 20 * ms, 0, []time.Duration{2 * ms}},
		"in which the time that publishing took is":   {8 * ms, 20 * ms, 7 * ms, []time.Duration{1 * ms}},
		"a part of a long wait, after publishing":     {2 * ms, 60 * ms, 7 * ms, []time.Duration{10 * ms}},
		"whichever ends later":                        {80 * ms, 60 * ms, 7 * ms, []time.Duration{73 * ms}},
		"bounded, however old the events are":         {0, time.Hour, time.Second, []time.Duration{25 * ms}},
		"none for a clock that runs behind the log":   {0, -time.Hour, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, gather(t, tc.least, tc.waited, tc.took), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("gathered for (-want +got):\n%s", diff)
			}
		})
	}
}
