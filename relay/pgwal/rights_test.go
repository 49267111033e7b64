package pgwal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

func TestRefusedCredentialsAreNotTriedInAHurry(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	role := "plain_" + d.slot
	d.exec(t, fmt.Sprintf("create role %s login", role))
	t.Cleanup(func() { _, _ = d.Exec(t.Context(), "drop role "+role) }) // best effort: the server goes anyway
	d.exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", d.slot)
	_, err := d.source(t, func(c *pgwal.Config) { c.URL = asRole(d, role) }).Open(t.Context())
	var slow *relay.SlowRetry
	if !errors.As(err, &slow) || slow.After < time.Minute || !strings.Contains(err.Error(), "alter role") {
		t.Errorf("Open without REPLICATION = %v, want a SlowRetry that says what to grant", err)
	}
}

func TestAUserWhoMayNotConnectIsToldSo(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	role := "stranger_" + d.slot
	d.exec(t, fmt.Sprintf("create role %s login replication", role))
	t.Cleanup(func() { _, _ = d.Exec(t.Context(), "drop role "+role) }) // best effort: the server goes anyway
	d.exec(t, fmt.Sprintf("revoke connect on database %s from public", d.Config().ConnConfig.Database))
	_, err := d.source(t, func(c *pgwal.Config) { c.URL = asRole(d, role) }).Open(t.Context())
	var slow *relay.SlowRetry
	if !errors.As(err, &slow) || !strings.Contains(err.Error(), "grant connect on database") {
		t.Errorf("Open without CONNECT = %v, want a SlowRetry that says what to grant", err)
	}
}

func TestRowsHiddenByRowSecurityAreNotPassedOver(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.exec(t, insert("committed before there is a slot"))
	role := "hidden_" + d.slot
	d.exec(t, fmt.Sprintf("create role %s login replication", role))
	d.exec(t, fmt.Sprintf("grant select on outbox_events to %s; alter table outbox_events enable row level security", role))
	t.Cleanup(func() { // best effort: the server goes anyway
		_, _ = d.Exec(context.Background(), fmt.Sprintf("drop owned by %s; drop role %s", role, role))
	})
	_, err := d.source(t, func(c *pgwal.Config) { c.URL = asRole(d, role) }).Open(t.Context())
	wantHalt(t, "Open", err, relay.SlotMissing, "may read all rows")
	if _, err := pgwal.ReadSlot(t.Context(), d.config()); !errors.Is(err, pgwal.ErrNoSlot) {
		t.Errorf("ReadSlot = %v, want ErrNoSlot: no slot may be made where rows cannot be seen", err)
	}
}

func asRole(d database, role string) string {
	c := d.Config().ConnConfig
	return fmt.Sprintf("postgres://%s@%s:%d/%s?sslmode=disable", role, c.Host, c.Port, c.Database)
}

func TestAReplicationRoleNeedsNoRightOnAnyTable(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	role := "relay_" + d.slot
	d.exec(t, fmt.Sprintf("create role %s login replication", role))
	as := func(c *pgwal.Config) { c.URL = asRole(d, role) }
	_, err := d.source(t, as).Open(t.Context())
	wantHalt(t, "Open without a slot", err, relay.SlotMissing, "walpost slot create")
	if err := pgwal.CreateSlot(t.Context(), pgwal.Config{URL: d.url, Slot: d.slot}); err != nil {
		t.Fatal(err)
	}
	s := open(t, d.source(t, as))
	d.exec(t, insert("a"))
	if diff := cmp.Diff([]string{"a"}, keys(read(t, s, 1))); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}
