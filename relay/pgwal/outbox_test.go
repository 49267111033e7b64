package pgwal_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/record"
	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

func TestReadOutboxSeesWhatIsPublished(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.exec(t, `create schema sales`)
	d.exec(t, `create table sales.outbox (id uuid primary key default gen_random_uuid(), note text default 'none', kind text not null default 'k', gone int,
		size int generated always as (1) stored, payload bytea)`)
	d.exec(t, `alter table sales.outbox drop column gone`)
	d.exec(t, `create publication sales for table sales.outbox with (publish = 'insert')`)
	got, err := pgwal.ReadOutbox(t.Context(), pgwal.Config{URL: d.url, Publication: "sales", Table: "Sales.Outbox"})
	if err != nil {
		t.Fatalf("ReadOutbox = %v, want no error", err)
	}
	want := pgwal.Outbox{
		Schema: "sales", Table: "outbox", Defaulted: []string{"note"},
		Columns: []record.Column{{Name: "id", TypeOID: 2950}, {Name: "note", TypeOID: 25}, {Name: "kind", TypeOID: 25}, {Name: "payload", TypeOID: 17}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ReadOutbox (-want +got):\n%s", diff)
	}
	if c, ok := got.Column("payload"); !ok || c.TypeOID != 17 {
		t.Errorf("Column(payload) = %v, %t, want the bytea", c, ok)
	}
	if c, ok := got.Column("gone"); ok {
		t.Errorf("Column(gone) = %v, want none", c)
	}
}

func TestReadOutboxLeavesOutColumnsThatThePublicationDoes(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	var version int
	d.scan(t, `select current_setting('server_version_num')::int`, nil, &version)
	if version < 150000 {
		t.Skip("PostgreSQL 15 and newer know publications of some columns")
	}
	d.exec(t, `alter publication walpost_outbox set table outbox_events (id, payload)`)
	got, err := pgwal.ReadOutbox(t.Context(), d.config())
	var names []string
	for _, c := range got.Columns {
		names = append(names, c.Name)
	}
	if err != nil || !slices.Equal(names, []string{"id", "payload"}) {
		t.Errorf("ReadOutbox = columns %q, %v, want id and payload", names, err)
	}
}

func TestReadOutboxHaltsWhereRowsWouldNotArrive(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.exec(t, `create publication updates for table outbox_events with (publish = 'update', publish_via_partition_root)`)
	d.exec(t, `create publication leaves for table outbox_events with (publish = 'insert')`)
	d.exec(t, `create publication filtered for table outbox_events where (aggregate_type = 'user') with (publish = 'insert', publish_via_partition_root)`)
	for name, tc := range map[string]struct {
		cfg   pgwal.Config
		cause relay.Cause
	}{
		"no publication":              {pgwal.Config{Publication: "none"}, relay.PublicationMissing},
		"a publication of updates":    {pgwal.Config{Publication: "updates"}, relay.PublicationMissing},
		"a publication of the leaves": {pgwal.Config{Publication: "leaves"}, relay.TableUnpublished},
		"a publication of some rows":  {pgwal.Config{Publication: "filtered"}, relay.TableUnpublished},
		"no table":                    {pgwal.Config{Table: "none"}, relay.TableUnpublished},
	} {
		tc.cfg.URL = d.url
		var halt *relay.HaltError
		if got, err := pgwal.ReadOutbox(t.Context(), tc.cfg); !errors.As(err, &halt) || halt.Cause != tc.cause || halt.Hint == "" {
			t.Errorf("ReadOutbox with %s = %+v, %v, want a halt of cause %s with a hint", name, got, err, tc.cause)
		}
	}
}

func TestAnActiveSlotSaysWhoReadsIt(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	open(t, d.source(t, nil))
	status, err := pgwal.ReadSlot(t.Context(), d.config())
	if err != nil || !status.Active || status.ActiveName != "walpost" {
		t.Errorf("ReadSlot under a relay = %+v, %v, want it active under the name walpost", status, err)
	}
	if err := status.Check(); err != nil {
		t.Errorf("Check() of a slot in use = %v, want no error", err)
	}
	status.WALStatus = "lost"
	var halt *relay.HaltError
	if err := status.Check(); !errors.As(err, &halt) || halt.Cause != relay.SlotLost {
		t.Errorf("Check() of a lost slot = %v, want a halt of cause slot_lost", err)
	}
}
