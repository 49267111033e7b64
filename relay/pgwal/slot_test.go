package pgwal_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/walpost/walpost/relay"
	"github.com/walpost/walpost/relay/pgwal"
)

func (d database) config() pgwal.Config { return pgwal.Config{URL: d.url, Slot: d.slot} }

func TestSlotCommands(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	if _, err := pgwal.ReadSlot(t.Context(), d.config()); !errors.Is(err, pgwal.ErrNoSlot) {
		t.Errorf("ReadSlot = %v, want ErrNoSlot", err)
	}
	if err := pgwal.DropSlot(t.Context(), d.config()); !errors.Is(err, pgwal.ErrNoSlot) {
		t.Errorf("DropSlot = %v, want ErrNoSlot", err)
	}
	if err := pgwal.CreateSlot(t.Context(), d.config()); err != nil {
		t.Fatalf("CreateSlot = %v, want no error", err)
	}
	d.exec(t, insert("a row that the slot sends and a second one would skip"))
	for name, create := range map[string]func() error{
		"CreateSlot":         func() error { return pgwal.CreateSlot(t.Context(), d.config()) },
		"CreateSlotSkipping": func() error { return pgwal.CreateSlotSkipping(t.Context(), d.config()) },
	} {
		if err := create(); !errors.Is(err, pgwal.ErrSlotExists) {
			t.Errorf("%s of an existing slot = %v, want ErrSlotExists", name, err)
		}
	}
	status, err := pgwal.ReadSlot(t.Context(), d.config())
	if err != nil {
		t.Fatal(err)
	}
	if !status.ThisDatabase || status.Plugin != "pgoutput" || status.Active || status.Confirmed == 0 || status.Current < status.Confirmed || status.WALStatus != "reserved" {
		t.Errorf("ReadSlot = %+v, want an idle slot of this database", status)
	}
	if text := status.Explain(); !strings.Contains(text, "not in use") {
		t.Errorf("Explain() = %q, want that the slot is not in use", text)
	}
	s := open(t, d.source(t, nil))
	if status, err = pgwal.ReadSlot(t.Context(), d.config()); err != nil || !status.Active || !strings.Contains(status.Explain(), "in use by server process") {
		t.Errorf("ReadSlot under a relay = %+v, %v, want an active slot", status, err)
	}
	if err := pgwal.DropSlot(t.Context(), d.config()); !errors.Is(err, relay.ErrStandby) {
		t.Errorf("DropSlot under a relay = %v, want ErrStandby", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slot to be dropped", func() bool { return pgwal.DropSlot(t.Context(), d.config()) == nil })
}

func TestASlotIsNotCreatedBehindCommittedRows(t *testing.T) {
	t.Parallel()
	d := migrated(t)
	d.exec(t, insert("already there"))
	_, err := d.source(t, nil).Open(t.Context())
	wantHalt(t, "Open", err, relay.SlotMissing, "--skip-existing")
	wantHalt(t, "CreateSlot", pgwal.CreateSlot(t.Context(), d.config()), relay.SlotMissing, "--skip-existing")
	eventually(t, "the trial slots to go with their connections", func() (gone bool) {
		d.scan(t, "select not exists (select from pg_replication_slots where database = current_database())", nil, &gone)
		return gone
	})
	if err := pgwal.CreateSlotSkipping(t.Context(), d.config()); err != nil {
		t.Fatalf("CreateSlotSkipping = %v, want no error", err)
	}
	s := open(t, d.source(t, nil))
	d.exec(t, insert("new"))
	if got := keys(read(t, s, 1))[0]; got != "new" {
		t.Errorf("first key = %s, want new", got)
	}
}

// Writers begin while the slot is being made, or right after, and commit until it is open. Whatever side of it their first rows come to lie on, no
// row may be missing from a slot that was made.
func TestASlotCreatedAmongWritersSkipsNothingOrHalts(t *testing.T) {
	t.Parallel()
	attempts, created := 6, 0
	if testing.Short() {
		attempts = 2
	}
	for attempt := range attempts {
		d := migrated(t)
		// The trial slot appears when it begins to look for a starting point, and has a position once it has found one.
		sign, mustCreate := "exists (select from pg_replication_slots where database = current_database())", false
		if attempt%2 == 1 {
			sign, mustCreate = "exists (select from pg_replication_slots where database = current_database() and confirmed_flush_lsn is not null)", true
		}
		stop := make(chan struct{}) // closed when the slot is open, or was refused
		wrote := d.writeOnce(t, sign, stop)
		stream, err := d.source(t, nil).Open(t.Context())
		close(stop)
		wrote.Wait()
		if err != nil {
			if mustCreate {
				t.Errorf("Open = %v although all rows were written behind the slot's start", err)
			}
			wantHalt(t, "Open", err, relay.SlotMissing, "would skip rows")
			continue
		}
		created++
		var rows int
		d.scan(t, "select count(*) from outbox_events", nil, &rows)
		seen := map[string]bool{}
		for _, key := range keys(read(t, stream, rows)) {
			seen[key] = true
		}
		if len(seen) != rows {
			t.Errorf("attempt %d: %d keys came out of the new slot, want the table's %d", attempt, len(seen), rows)
		}
		if err := stream.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d of %d slots were created among writers, the others halted", created, attempts)
}

// writeOnce starts four writers that wait for sign to be true, then insert rows with keys of their own until stop is closed.
func (d database) writeOnce(t *testing.T, sign string, stop <-chan struct{}) *sync.WaitGroup {
	t.Helper()
	var wrote sync.WaitGroup
	for w := range 4 {
		wrote.Go(func() {
			for i, ready := 0, false; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if !ready {
					if err := d.QueryRow(t.Context(), "select "+sign).Scan(&ready); err != nil {
						t.Errorf("wait for the slot: %v", err)
						return
					}
					continue
				}
				if _, err := d.Exec(t.Context(), insert(fmt.Sprintf("%d-%d", w, i))); err != nil {
					t.Errorf("insert: %v", err)
					return
				}
			}
		})
	}
	return &wrote
}
