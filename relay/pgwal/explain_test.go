package pgwal_test

import (
	"strings"
	"testing"
	"time"

	"github.com/walpost/walpost/relay/pgwal"
)

func TestTheStateOfASlotIsExplainedWithTheNumbersAndWhatToDo(t *testing.T) {
	t.Parallel()
	safe, since := int64(77), time.Now().Add(-3*time.Hour)
	usual := pgwal.SlotStatus{Name: "s", ThisDatabase: true, Plugin: "pgoutput", WALStatus: "reserved", Confirmed: 0x20, Restart: 0x10, Current: 0x120}
	active := func(s *pgwal.SlotStatus) { s.Active, s.ActivePID, s.ActiveName = true, 4711, "walpost" }
	for name, tc := range map[string]struct {
		change func(*pgwal.SlotStatus)
		says   []string
		next   string
	}{
		"numbers": {
			func(*pgwal.SlotStatus) {},
			[]string{"is not in use: no relay", "256 bytes of log lie behind it; 272 bytes are kept for the slot, from 0/10 on", "wal_status is reserved", "No max_slot_wal_keep_size limits it"},
			"start the relay; if nobody is to read the slot any more, walpost slot drop --slot s",
		},
		"large numbers":     {func(s *pgwal.SlotStatus) { s.Current = 3<<30 + 0x20 }, []string{"3221225472 bytes (3.0 GiB) of log lie behind it"}, "start the relay"},
		"since when":        {func(s *pgwal.SlotStatus) { s.InactiveSince = &since }, []string{"is not in use since " + since.UTC().Format(time.RFC3339) + " (3h0m0s): no relay"}, "start the relay"},
		"who":               {active, []string{"in use by server process 4711, application walpost."}, "nothing; another relay would stand by"},
		"who else":          {func(s *pgwal.SlotStatus) { active(s); s.ActiveName = "Debezium Streaming" }, []string{"application Debezium Streaming"}, "until that application lets go"},
		"the limit":         {func(s *pgwal.SlotStatus) { s.SafeBytes, s.WALStatus = &safe, "extended" }, []string{"is extended: more than max_wal_size", "lost after another 77 bytes of log"}, "start the relay"},
		"the danger":        {func(s *pgwal.SlotStatus) { s.WALStatus = "unreserved" }, []string{"about to be lost"}, "start the relay at once"},
		"the danger in use": {func(s *pgwal.SlotStatus) { active(s); s.WALStatus = "unreserved" }, []string{"about to be lost"}, "raise max_slot_wal_keep_size"},
		"a long transaction": {
			func(s *pgwal.SlotStatus) { active(s); s.Confirmed, s.Current = 100<<20, 100<<20 },
			[]string{"0 bytes of log lie behind it; 104857584 bytes (100.0 MiB) are kept", "So much is kept although it is confirmed"},
			"end the transactions that are open for long",
		},
		"the invalidation": {func(s *pgwal.SlotStatus) { s.InvalidationReason = "idle_timeout" }, []string{"is lost (idle_timeout)", "after 0/20 may never"}, "walpost slot create --skip-existing"},
		"the database":     {func(s *pgwal.SlotStatus) { s.ThisDatabase, s.Database = false, "elsewhere" }, []string{"belongs to database elsewhere"}, "--slot"},
		"the future":       {func(s *pgwal.SlotStatus) { s.Current = 1 }, []string{"0 bytes of log lie behind it"}, "start the relay"},
	} {
		s := usual
		tc.change(&s)
		for _, want := range tc.says {
			if got := s.Explain(); !strings.Contains(got, want) {
				t.Errorf("Explain() about %s = %q, want %q in it", name, got, want)
			}
		}
		if got := s.Next(); !strings.Contains(got, tc.next) {
			t.Errorf("Next() about %s = %q, want %q in it", name, got, tc.next)
		}
	}
}
