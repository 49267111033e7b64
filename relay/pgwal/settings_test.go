package pgwal_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

// hostile are settings that change the text of values, or of what the server says.
var hostile = []string{
	"timezone = 'Asia/Tokyo'", "datestyle = 'SQL, DMY'", "intervalstyle = 'iso_8601'", "extra_float_digits = -10", "bytea_output = 'escape'",
	"client_encoding = 'LATIN1'", "client_min_messages = 'error'", "standard_conforming_strings = off", "statement_timeout = '1ms'", "lock_timeout = '1ms'",
}

// speakForeign sets the language of the server's messages, where it has one.
func (d database) speakForeign(t *testing.T) {
	t.Helper()
	for _, locale := range []string{"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "ja_JP.UTF-8", "C.UTF-8", "C.utf8"} {
		_, err := d.Exec(t.Context(), fmt.Sprintf("alter database %s set lc_messages = '%s'", d.name(), locale))
		if err == nil {
			t.Logf("lc_messages = %s", locale)
			return
		}
	}
}

func (d database) name() string { return pgx.Identifier{d.Config().ConnConfig.Database}.Sanitize() }

// Types that users made are published as the text that the session gives them, so the session must not depend on what the database has set, nor on
// what it has set for the relay's role.
func TestNoSettingOfTheDatabaseChangesAnEvent(t *testing.T) {
	t.Parallel()
	set := map[string]func(*testing.T, database){
		"for all": func(t *testing.T, d database) {
			for _, setting := range hostile {
				d.set(t, setting)
			}
			d.speakForeign(t)
		},
		"for the role": func(t *testing.T, d database) {
			role := pgx.Identifier{d.Config().ConnConfig.User}.Sanitize()
			for _, setting := range hostile {
				d.exec(t, fmt.Sprintf("alter role %s in database %s set %s", role, d.name(), setting))
			}
		},
		"in the URL": func(*testing.T, database) {},
	}
	for name, change := range set {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.URL(t)
			d := database{Pool: pgtest.Pool(t, url), url: url, slot: pgtest.SlotName(t)}
			d.exec(t, `create domain moment as timestamptz; create domain day as date; create domain span as interval; create domain ratio as float8; create domain price as money;
				create domain raw as bytea;
				create table outbox (id text primary key, at moment, day day, lasts span, ratio ratio, price price, raw raw, payload bytea);
				create publication walpost_outbox for table outbox with (publish = 'insert')`)
			change(t, d)
			if name == "in the URL" {
				d.url += "&datestyle=SQL&options=-c%20intervalstyle%3Diso_8601%20-c%20bytea_output%3Descape%20-c%20DateStyle%3DGerman%20-c%20timezone%3DJapan"
			}
			s := open(t, d.source(t, func(c *pgwal.Config) {
				c.Table, c.Mapping = "outbox", record.Mapping{Key: "id", Topic: "things", Placed: []string{"at", "day", "lasts", "ratio", "price", "raw"}}
			}))
			d.exec(t, `insert into outbox values ('é', '2026-11-23 20:00:00+00', '2026-11-23', '1 day 2 hours', 0.1::float8 + 0.2::float8, 12.5::numeric::money, '\x00ff', '\x00ff')`)
			want := record.Record{Topic: "things", Key: []byte("é"), Value: []byte{0, 0xff}, Headers: []record.Header{
				{Key: "id", Value: []byte("é")},
				{Key: "at", Value: []byte("2026-11-23 20:00:00+00")},
				{Key: "day", Value: []byte("2026-11-23")},
				{Key: "lasts", Value: []byte("1 day 02:00:00")},
				{Key: "ratio", Value: []byte("0.30000000000000004")},
				{Key: "price", Value: []byte("$12.50")},
				{Key: "raw", Value: []byte(`\x00ff`)},
			}}
			if diff := cmp.Diff(want, read(t, s, 1)[0].Record); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
		})
	}
}

// A transaction is sent inside one of the server's own, which takes for as long as the sink stands still.
func TestATransactionTimeoutOfTheDatabaseEndsNoStream(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	var known bool
	d.scan(t, "select exists (select from pg_settings where name = 'transaction_timeout')", nil, &known)
	if !known {
		return // before PostgreSQL 17 there is none
	}
	d.set(t, "transaction_timeout = '300ms'")
	src := d.source(t, func(c *pgwal.Config) { c.QueueBytes, c.SenderTimeout = 50_000, time.Second })
	s := open(t, src)
	const rows = 20_000 // far more than all socket buffers hold
	d.exec(t, "insert into outbox_events (id, aggregate_id, event_type, payload) select gen_random_uuid(), n::text, 'things', to_json(repeat('x', 2000)) from generate_series(1, $1) n", rows)
	eventually(t, "a full queue", func() bool { return src.BufferedBytes() > 20_000 })
	d.awaitReports(t, 4) // three times a second
	if got := len(read(t, s, rows)); got != rows {
		t.Errorf("read %d rows, want %d over the same connection", got, rows)
	}
}

// What the server says in words is translated on the way, whatever languages this machine's server speaks: only codes are left to go by.
func TestWhatTheServerRefusesIsToldByItsCodeInAnyLanguage(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		arrange func(*testing.T, database)
		cause   relay.Cause // zero: it passes
		is      error
		streams bool // the error comes from the stream, and not from Open
	}{
		"a slot that is in use": {
			arrange: func(t *testing.T, d database) { open(t, d.source(t, nil)) }, is: relay.ErrStandby,
		},
		"a row that was written before its publication": {
			arrange: func(t *testing.T, d database) {
				d.exec(t, "drop publication walpost_outbox")
				d.exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", d.slot)
				d.exec(t, insert("lost to this slot"))
				d.exec(t, "create publication walpost_outbox for table outbox_events with (publish = 'insert', publish_via_partition_root = true)")
			},
			cause: relay.PublicationMissing, streams: true,
		},
		"a connection that an administrator ended": {
			arrange: func(t *testing.T, d database) {
				d.backlog(t)
				go d.terminate(t)
			},
			streams: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := migrated(t)
			tc.arrange(t, d)
			foreign := newTranslator(t, fmt.Sprintf("%s:%d", d.Config().ConnConfig.Host, d.Config().ConnConfig.Port))
			s, err := d.source(t, func(c *pgwal.Config) { c.URL = through(d, foreign.Addr()) }).Open(t.Context())
			if err == nil {
				t.Cleanup(func() { _ = s.Close() })
				if _, err = next(t, s); !tc.streams {
					t.Fatalf("Open = nil, want an error")
				}
			}
			var halt *relay.HaltError
			if errors.As(err, &halt) != (tc.cause != 0) || halt != nil && halt.Cause != tc.cause || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("error = %v, want cause %v, and %v in it", err, tc.cause, tc.is)
			}
			if foreign.translated.Load() == 0 {
				t.Error("no message of the server was translated: this test has tested nothing")
			}
		})
	}
}
