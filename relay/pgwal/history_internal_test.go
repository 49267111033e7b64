package pgwal

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walpost/walpost/internal/pgtest"
	"github.com/walpost/walpost/relay"
)

func TestTheHistoryOfATimelineSaysWhereItsForebearsWereLeft(t *testing.T) {
	t.Parallel()
	srv := pgtest.StartServer(t) // it is promoted
	cfg := Config{URL: srv.Migrated(t), Slot: pgtest.SlotName(t)}
	if err := CreateSlot(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	before, _, err := ReadOrigin(t.Context(), cfg)
	if err != nil || before.Timeline != 1 || len(before.Forks) != 0 {
		t.Errorf("ReadOrigin = %+v, %v, want timeline 1 without a history", before, err)
	}
	for range 2 {
		srv.Stop(t)
		srv.Promote(t)
	}
	o, _, err := ReadOrigin(t.Context(), cfg)
	if err != nil || o.SystemID != before.SystemID || o.Timeline != 3 || len(o.Forks) != 2 || o.Forks[0].Timeline != 1 || o.Forks[1].Timeline != 2 ||
		o.Forks[0].At <= before.Confirmed || o.Forks[1].At <= o.Forks[0].At {
		t.Errorf("ReadOrigin = %+v, %v, want timeline 3 of the same system, with the forks of 1 and 2 in order behind %s", o, err, before.Confirmed)
	}
	conn, err := cfg.withDefaults().connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(t.Context(), conn)
	execute(t, conn, "copy (select) to program 'cat >/dev/null; rm pg_wal/00000003.history'")
	if o, _, err = ReadOrigin(t.Context(), cfg); err != nil || o.Timeline != 3 || len(o.Forks) != 0 {
		t.Errorf("ReadOrigin without the file = %+v, %v, want timeline 3 without a history", o, err)
	}
}

func TestAHistoryFileIsReadAsPostgreSQLDoes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want []relay.Fork
		bad  bool
	}{
		"nothing":               {},
		"comments and no end":   {text: "# a\n\n1\t0/3000148\tno recovery target specified\n  \n2\tA/B0 # why", want: []relay.Fork{{Timeline: 1, At: 0x3000148}, {Timeline: 2, At: 0xA000000B0}}},
		"a line cut short":      {text: "1\n", bad: true},
		"a number that is none": {text: "x\t0/1\t\n", bad: true},
		"a large number":        {text: "4294967296\t0/1\n", bad: true},
		"a place that is none":  {text: "1\t17\n", bad: true},
	} {
		got, err := parseHistory(tc.text)
		if diff := cmp.Diff(tc.want, got); diff != "" || (err != nil) != tc.bad {
			t.Errorf("parseHistory of %s = %v, forks (-want +got):\n%s", name, err, diff)
		}
	}
}

func FuzzHistory(f *testing.F) {
	f.Add("1\t0/3000148\tno recovery target specified\n2\tA/B0\n")
	f.Add("# 1 0/1")
	f.Fuzz(func(t *testing.T, text string) {
		forks, err := parseHistory(text)
		if err == nil && len(forks) > strings.Count(text, "\n")+1 {
			t.Errorf("parseHistory(%q) = %v, more forks than lines", text, forks)
		}
	})
}
