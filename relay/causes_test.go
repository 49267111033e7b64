package relay_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// harm is something that no retry mends, done to a system that works.
type harm struct {
	before  func(*testing.T, *injured) // while nothing is published yet
	do      func(*testing.T, *injured)
	idle    bool   // no relay runs meanwhile
	alone   bool   // on a server of its own
	says    string // in the message
	reaches bool   // it is about a stretch of log, and not about a place in it
	empties bool   // the topic
}

// injured is a system whose relay is about to halt.
type injured struct {
	*whole
	srv *pgtest.Server // nil: it is others' too
}

// harms are by cause.
var harms = map[relay.Cause]harm{
	relay.SlotMissing: {
		idle: true, says: "walpost slot create --skip-existing",
		do: func(t *testing.T, w *injured) {
			w.dropSlot(t)
			w.exec(t, insert("behind"))
		},
	},
	relay.SlotLost: {
		idle: true, alone: true, reaches: true, says: "walpost slot drop",
		do: func(t *testing.T, w *injured) {
			w.exec(t, insert("behind"))
			w.exec(t, "alter system set max_slot_wal_keep_size = '1MB'")
			w.exec(t, "select pg_reload_conf()")
			w.exec(t, "create table noise (t text)")
			eventually(t, "the slot to be lost", func() (lost bool) {
				w.exec(t, "insert into noise select repeat('x', 1000) from generate_series(1, 20000)")
				w.exec(t, "select pg_switch_wal()")
				w.exec(t, "checkpoint")
				w.scan(t, "select wal_status = 'lost' from pg_replication_slots where slot_name = $1", &lost)
				return lost
			})
		},
	},
	relay.SlotMoved: {
		idle: true, reaches: true, says: "walpost slot adopt",
		do: func(t *testing.T, w *injured) {
			w.exec(t, insert("behind"))
			eventually(t, "the slot to be moved", func() bool {
				_, err := w.Exec(t.Context(), "select pg_replication_slot_advance($1, pg_current_wal_lsn())", w.slot)
				return err == nil
			})
		},
	},
	relay.PublicationMissing: {
		says: "create publication",
		do: func(t *testing.T, w *injured) {
			w.exec(t, "drop publication walpost_outbox")
			w.exec(t, insert("behind"))
		},
	},
	relay.TableUnpublished: {
		says: "alter publication",
		do: func(t *testing.T, w *injured) {
			w.exec(t, "alter publication walpost_outbox drop table outbox_events")
			w.exec(t, insert("behind"))
		},
	},
	relay.IdentityChanged: { // a backup that was taken of the running server, and was put back without a word: the timeline is the same
		idle: true, alone: true, says: "walpost slot adopt",
		before: func(t *testing.T, w *injured) {
			w.srv.Stop(t)
			w.srv.Save(t)
			w.srv.Start(t)
			w.Reset() // its connections are gone
		},
		do: func(t *testing.T, w *injured) {
			w.srv.Stop(t)
			w.srv.Restore(t)
			w.srv.Start(t)
			w.Reset()
			w.exec(t, insert("behind"))
			w.insertRange(t, 101, 110)
		},
	},
	relay.ColumnMissing: {
		says: "traceparent",
		do: func(t *testing.T, w *injured) {
			w.exec(t, "alter table outbox_events drop column traceparent")
			w.exec(t, insert("behind"))
		},
	},
	relay.EventTooLarge: {
		says: "max.message.bytes",
		do: func(t *testing.T, w *injured) {
			w.exec(t, fmt.Sprintf("insert into outbox_events (id, aggregate_id, event_type, payload) values (gen_random_uuid(), 'behind', 'things', to_json('%s'::text))",
				strings.Repeat("x", 20_000)))
			w.exec(t, insert("behind"))
		},
	},
	relay.TopicMissing: {
		says: "walpost topics create",
		do: func(t *testing.T, w *injured) {
			w.exec(t, strings.ReplaceAll(insert("behind"), "'things'", "'nowhere'")+insert("behind"))
		},
	},
	relay.WatermarkUnusable: {
		says: "walpost slot adopt",
		do: func(t *testing.T, w *injured) {
			w.deleteTopic(t, "outbox.relay.watermarks")
			w.exec(t, insert("behind"))
		},
	},
	relay.TopicTruncated: {
		idle: true, empties: true, says: "walpost slot adopt",
		do: func(t *testing.T, w *injured) {
			w.deleteTopic(t, "things")
			w.broker.CreateTopic(t, "things", 3)
			w.exec(t, insert("behind"))
		},
	},
	relay.Unpublishable: {
		says: "pg_replication_slot_advance",
		do: func(t *testing.T, w *injured) {
			w.exec(t, "alter table outbox_events drop constraint outbox_events_event_type_topic")
			w.exec(t, strings.ReplaceAll(insert("behind"), "'things'", "'no topic'")+insert("behind"))
		},
	},
}

func TestEachCauseEndsTheRelayWithNothingPublishedBehindIt(t *testing.T) {
	t.Parallel()
	for cause := relay.SlotMissing; cause <= relay.Unpublishable; cause++ {
		t.Run(cause.String(), func(t *testing.T) {
			t.Parallel()
			h, ok := harms[cause]
			if !ok {
				t.Fatal("nobody knows how to bring it about: a cause needs a line in harms")
			}
			w := newInjured(t, h.alone)
			err := w.injure(t, h)
			want := []string{"1", "2", "3", "4", "5"}
			if h.empties {
				want = []string{}
			}
			var halt *relay.HaltError
			if !errors.As(err, &halt) || halt.Cause != cause || halt.Hint == "" || !strings.Contains(err.Error(), h.says) {
				t.Fatalf("Run = %v, want a halt of cause %v that says %q", err, cause, h.says)
			}
			if halt.From == 0 && halt.To == 0 || h.reaches && halt.To <= halt.From {
				t.Errorf("stretch = %s to %s, want one, of more than a place: %v", halt.From, halt.To, h.reaches)
			}
			got := w.published(t)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("keys in the topic (-want +got):\n%s", diff)
			}
		})
	}
}

// injure lets a relay publish five events, does it harm, and returns what Run ends with.
func (w *injured) injure(t *testing.T, h harm) error {
	t.Helper()
	starts := func() *running {
		return w.startFrom(t, w.pgSource(t, func(c *pgwal.Config) { c.CheckInterval = 20 * time.Millisecond }))
	}
	r := starts()
	r.await(t, relay.StateStreaming)
	if h.before != nil {
		h.before(t, w)
	}
	w.insertRange(t, 1, 3)
	w.committedOnce(t, 3)
	w.insertRange(t, 4, 5) // in another transaction: the watermark knows the ends of topics before its own
	w.committedOnce(t, 5)
	if h.idle {
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	h.do(t, w)
	if h.idle {
		r = starts()
	}
	r.await(t, relay.StateHalted)
	return r.stop()
}

// newInjured is a system that works, whose topic takes events of up to 10,000 bytes.
func newInjured(t *testing.T, alone bool) *injured {
	t.Helper()
	w := &injured{}
	if alone {
		w.srv = pgtest.StartServer(t)
		w.whole = newWhole(t, w.srv.Migrated(t))
	} else {
		w.whole = newWhole(t, pgtest.Migrated(t))
	}
	w.limit(t, "10000")
	return w
}

// limit is the size of the largest batch that the topic things takes, in bytes.
func (w *injured) limit(t *testing.T, bytes string) {
	t.Helper()
	if _, err := w.admin(t).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &bytes}}, "things"); err != nil {
		t.Fatal(err)
	}
}

func (w *injured) admin(t *testing.T) *kadm.Client { return kadm.NewClient(w.broker.Client(t)) }

func (w *injured) deleteTopic(t *testing.T, topic string) {
	t.Helper()
	if _, err := w.admin(t).DeleteTopic(t.Context(), topic); err != nil {
		t.Fatal(err)
	}
}

func (w *whole) scan(t *testing.T, sql string, dst ...any) {
	t.Helper()
	if err := w.QueryRow(t.Context(), sql, w.slot).Scan(dst...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// dropSlot drops the slot as soon as the server has noticed that its relay is gone.
func (w *whole) dropSlot(t *testing.T) {
	t.Helper()
	eventually(t, "the slot to be dropped", func() bool {
		return pgwal.DropSlot(t.Context(), pgwal.Config{URL: w.url, Slot: w.slot}) == nil
	})
}
